"""Linux guests: the plan is composed here, each step in a module of its own."""

from __future__ import annotations

import re

from imgconv.errors import CannotConvert, ImgconvError
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import (
    bootloader,
    cmdline,
    configs,
    crypttab,
    esp,
    fstab,
    initramfs,
    kernels,
    places,
)
from imgconv.linux.bootloader import BootLoader
from imgconv.linux.config import Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus, parse
from imgconv.linux.kernels import Kernel
from imgconv.model import Bus, Capabilities, Change, Inspection, Options, Plan, RunInGuest


def plan(reader: Reader, inspection: Inspection, options: Options) -> Plan:
    """What it takes that this guest boots with its disks on `options.block`.

    Raises CannotConvert when its boot loader, kernels or initramfs tool are unknown.
    """
    _refuse_hibernated(inspection)
    _, offered = boot_chain(reader)
    able_to = capabilities(reader, options.block)
    bus = able_to.block
    fallback = esp.plan(reader, inspection)
    if not bus.is_virtio:
        return Plan(fallback, able_to, (able_to.reason,))
    renamer = Renamer.of(inspection, options.names, bus, places.of(
        read_text(reader, fstab.PATH) or "", inspection.filesystems))
    able = tuple(kernel for kernel in offered if kernel.can_drive(bus))
    warnings = [f"kernel {kernel.release} has no driver for {bus}: its boot menu entries will not "
                "find the disk" for kernel in offered if kernel not in able]
    warnings += _unknown_disks(reader, renamer)
    warnings += [f"{check.path} {check.message}: {check.evidence}"
                 for check in configs.checks(reader, renamer)
                 if check.verdict is Verdict.DOUBTFUL]

    changes: list[Change] = [*fstab.plan(reader, renamer), *crypttab.plan(reader, renamer),
                             *bootloader.plan(reader, renamer),
                             *configs.plan(reader, renamer), *fallback]
    changes += initramfs.persist(reader, renamer, kernels.modular_drivers(able, bus))
    for kernel in able:
        changes += initramfs.plan(reader, kernel, inspection.arch, renamer, options.initramfs)
    # Two boot entries may share an initramfs, and two kernels a rebuild's edit.
    unique = list(dict.fromkeys(changes))
    # A rebuild reads the edited files, so commands come last.
    return Plan((*(c for c in unique if not isinstance(c, RunInGuest)),
                 *(c for c in unique if isinstance(c, RunInGuest))), able_to, tuple(warnings))


def _refuse_hibernated(inspection: Inspection) -> None:
    """A guest that resumes believes what it remembers of its filesystems: any change corrupts them.

    blkid calls swap that holds a suspended system swsuspend.
    """
    asleep = [f.device for f in inspection.filesystems if f.type == "swsuspend"]
    if asleep:
        raise CannotConvert(f"this guest is hibernated (its memory is on {', '.join(asleep)})",
                            hint="start it where it ran, shut it down, and convert it then")


def boot_chain(reader: Reader) -> tuple[BootLoader, tuple[Kernel, ...]]:
    """The guest's boot loader and the kernels it offers, the default first.

    Raises CannotConvert when there is none.
    """
    loader = bootloader.detect(reader)
    if loader is None:
        raise CannotConvert("the guest's boot loader is none that imgconv knows",
                            hint="known are: " + ", ".join(b.NAME for b in bootloader.BOOTLOADERS))
    offered = kernels.offered(reader, loader.entries(reader))
    if not offered:
        raise CannotConvert(f"{loader.NAME} offers no kernel whose modules are installed",
                            hint="look at its configuration and at /lib/modules in the guest")
    return loader, offered


def capabilities(reader: Reader, wanted: Bus) -> Capabilities:
    """What the default kernel can drive; the bus falls back when it cannot do virtio.

    Raises CannotConvert when there is no kernel that we can tell of.
    """
    kernel = boot_chain(reader)[1][0]
    version = tuple(map(int, re.findall(r"\d+", kernel.release)[:2]))
    tree = kernel.tree
    bus, reason = wanted, ""
    if not kernel.can_drive(wanted):
        bus = old_bus(reader)
        missing = [name for name in kernels.DRIVERS[wanted] if tree.state(name) != "built in"
                   and (not kernel.initrds or tree.state(name) == "absent")]
        reason = (f"kernel {kernel.release} cannot drive {wanted} (no {', '.join(missing)}), "
                  f"so the disks stay on {bus}")
    return Capabilities(
        block=bus, reason=reason,
        net=tree.has("virtio_pci", "virtio_net"),
        rng=tree.has("virtio_pci", "virtio_rng"),
        balloon=tree.has("virtio_pci", "virtio_balloon"),
        # Linux drives virtio 1.0 devices since 4.0 (virtio_pci's modern half).
        virtio_1_0=version >= (4, 0))


def old_bus(reader: Reader) -> Bus:
    """SATA when the default kernel or its initramfs has the driver for it, else IDE.

    A guest that calls its disks hda has the drivers from before libata, which are for IDE.
    """
    kernel = boot_chain(reader)[1][0]
    specs = [line.spec for line in fstab.lines(reader) if not fstab.is_removable(line)]
    specs += [spec for entry in kernel.entries for _, spec in cmdline.devices(entry.cmdline)]
    named = map(parse, specs)
    if any(name is not None and name.prefix == "hd" for name in named):
        return Bus.IDE
    if kernel.tree.state("ahci") == "built in":
        return Bus.SATA
    if kernel.initramfs is None:
        return Bus.IDE
    try:
        names = initramfs.read(reader, kernel.initrds).entries
    except ImgconvError:
        return Bus.IDE
    return Bus.SATA if any("/ahci.ko" in name for name in names) else Bus.IDE


def _unknown_disks(reader: Reader, renamer: Renamer) -> list[str]:
    return [f"/etc/fstab names {line.spec}, which is on none of the given disks"
            for line in fstab.lines(reader)
            if hangs_on_bus(line.spec) and renamer.filesystem(line.spec) is None
            and not fstab.is_removable(line)]
