"""A shell script that starts the machine with QEMU, and the command inside it.

`argv` is the one computation of the command: the script prints it, `imgconv.boot` runs it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

from imgconv.emit import swtpm
from imgconv.emit.shell import comment
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Bus, Disk, Firmware, Machine, Nic

NAME = "qemu"
SUFFIX = ".qemu.sh"
HERE = True

#: QEMU's program for each of `machine.ARCHES`.
EMULATORS = {
    "x86_64": "qemu-system-x86_64",
    "i386": "qemu-system-x86_64",
    "aarch64": "qemu-system-aarch64",
}

# The best CPU without KVM. x86: la57 off, as libguestfs has it, because boot loaders and kernels
# stumble over 5-level page tables. ARM's `max` has LPA2, which hangs kernels before 5.12 and
# EDK2 (tianocore/edk2#11962).
_EMULATED_CPUS = {
    "x86_64": "max,la57=off",
    "i386": "max,la57=off",
    "aarch64": "cortex-a72",
}

# The standard VGA is what every Windows has a driver for; qxl is worth its price with SPICE only.
# `virt` has no VGA and no PS/2 keyboard.
_VIDEO = {
    "x86_64": ("-vga", "std"),
    "i386": ("-vga", "std"),
    "aarch64": ("-device", "virtio-gpu-pci", "-device", "qemu-xhci", "-device", "usb-kbd"),
}

# What a network backend is to QEMU. `isolated` is for boot tests: DHCP answers, nothing else does.
_NETDEVS = {
    "user": "user",
    "tap": "tap",
    "isolated": "user,restrict=on",
}

# Words that the script fills in when it runs. No real word has a NUL in it.
_ACCEL, _CPU, _DISPLAY = "\0accel", "\0cpu", "\0display"


def emit(machine: Machine, *, kvm: bool = False,
         firmware_files: tuple[Path, Path] | None = None) -> str:
    """The script. `kvm` makes KVM its default; the user's IMGCONV_ACCEL overrides that.

    `firmware_files` are the UEFI code and the template of its variables; the script copies the
    template beside the first disk when it first runs. For `machine.secure_boot` they must be those
    with Microsoft's keys. Raises ImgconvError for a UEFI machine without them, UsageError for a
    path that QEMU's options cannot hold.
    """
    private = None
    if firmware_files is not None:
        private = (firmware_files[0], vars_path(machine))
    words = _argv(machine, _ACCEL, _CPU, _DISPLAY, "mon:stdio", private)
    parts = [_header(machine), _settings(machine, kvm)]
    if machine.firmware is Firmware.UEFI and firmware_files is not None:
        parts.append(_copy_once(firmware_files[1], vars_path(machine)))
    if machine.tpm:
        parts.append(swtpm.script(machine))
    parts.append(_command(words))
    return "\n".join(parts)


def argv(
    machine: Machine,
    *,
    accel: str,
    display: str = "none",
    serial: str = "mon:stdio",
    firmware: tuple[Path, Path] | None = None,
    extra: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """QEMU's command for `machine`, the program first.

    `accel`, `display` and `serial` are what the options of these names take. `firmware` is the
    UEFI code and the machine's own, writable copy of the variables. `extra` goes last. A TPM is a
    program of its own, which only the script starts. Raises as `emit` does.
    """
    return _argv(machine, accel, cpu(machine, accel), display, serial, firmware) + extra


def cpu(machine: Machine, accel: str) -> str:
    """What `-cpu` takes: `max` becomes the best CPU of the accelerator.

    Only KVM has Hyper-V's features; without it QEMU refuses to start.
    """
    if accel == "kvm":
        return ",".join(("host" if machine.cpu == "max" else machine.cpu, *machine.hyperv))
    return _EMULATED_CPUS[machine.arch] if machine.cpu == "max" else machine.cpu


def vars_path(machine: Machine) -> Path:
    """Where the script keeps the machine's own UEFI variables.

    Those for Secure Boot have their own: they hold the keys.
    """
    disk = machine.disks[0].path
    return disk.with_name(disk.name + (".secure" if machine.secure_boot else "") + ".vars.fd")


# --- the command --------------------------------------------------------------------------------


def _argv(machine: Machine, accel: str, cpu_model: str, display: str, serial: str,
          firmware: tuple[Path, Path] | None) -> tuple[str, ...]:
    return (
        EMULATORS[machine.arch],
        "-name", "guest=" + _option(machine.name),
        # Nothing but what is said here: no default CD, floppy or network card, no user's config.
        "-nodefaults",
        "-no-user-config",
        *_machine(machine, firmware),
        "-accel", accel,
        "-cpu", cpu_model,
        # Sockets cost licences and Windows clients use two at most; cores do not.
        "-smp", f"cpus={machine.cpus},sockets=1",
        "-m", f"size={machine.memory}M",
        "-rtc", _clock(machine),
        # Only the disk with a bootindex.
        "-boot", "strict=on",
        *_direct(machine),
        *_disks(machine),
        *_nics(machine),
        *(("-device", "virtio-rng-pci") if machine.rng else ()),
        *(("-device", "virtio-balloon-pci") if machine.balloon else ()),
        *_VIDEO[machine.arch],
        *_tablet(machine),
        "-display", display,
        "-serial", serial,
    )


def _machine(machine: Machine, firmware: tuple[Path, Path] | None) -> tuple[str, ...]:
    """The machine type and, for UEFI, the two flash chips with the firmware."""
    kind = machine.machine_type + ("" if machine.hpet else ",hpet=off")
    if machine.firmware is Firmware.BIOS:
        return ("-machine", kind)
    if firmware is None:
        raise ImgconvError("this guest starts by UEFI, and no UEFI firmware was found",
                           hint="install the package: ovmf (ARM: qemu-efi-aarch64) on Debian, "
                                "edk2-ovmf (edk2-aarch64) on Fedora")
    code, variables = firmware
    return (
        "-machine", f"{kind}{',smm=on' if machine.secure_boot else ''},pflash0=code,pflash1=vars",
        # Only the firmware itself, in system management mode, writes the variables then.
        *(("-global", "driver=cfi.pflash01,property=secure,value=on")
          if machine.secure_boot else ()),
        *_blockdev(_node("code", "raw", code, read_only=True)),
        *_blockdev(_node("vars", "raw", variables)),
    )


def _direct(machine: Machine) -> tuple[str, ...]:
    """The kernel that starts without boot loader."""
    if machine.direct is None:
        return ()
    initrd = machine.direct.initrd
    return ("-kernel", str(machine.direct.kernel),
            *(("-initrd", str(initrd)) if initrd is not None else ()),
            "-append", machine.direct.cmdline)


def _clock(machine: Machine) -> str:
    """Windows counts its clock's interrupts: those that were missed must come later.

    The other timer that it may count, KVM's PIT, makes up for them unless it is told otherwise.
    """
    base = "base=localtime" if machine.localtime else "base=utc"
    return base + (",driftfix=slew" if machine.catch_up else "")


def _tablet(machine: Machine) -> tuple[str, ...]:
    """A pointer with absolute coordinates: a mouse's would drift apart from the viewer's."""
    if not machine.tablet:
        return ()
    return ("-device", f"{machine.tablet},id=usb", "-device", "usb-tablet,bus=usb.0")


def _disks(machine: Machine) -> tuple[str, ...]:
    """Every disk: first the image, then the device.

    virtio devices sit on the root bus itself, where they stay transitional and so fit old and
    new drivers alike; behind a PCIe root port they would be modern only.
    """
    words: list[str] = []
    if machine.bus is Bus.VIRTIO_SCSI:
        words += ("-device", "virtio-scsi-pci,id=scsi0")
    device = _DISK_DEVICES[machine.bus]
    for index, disk in enumerate(machine.disks):
        boot = ",bootindex=1" if index == 0 else ""
        words += _blockdev(_disk_node(f"disk{index}", disk))
        words += ("-device", f"{device(index)},drive=disk{index}{boot}")
    return tuple(words)


# The n-th disk's device. q35's own AHCI and pc's own IDE both call their channels ide.N.
_DISK_DEVICES: dict[Bus, Callable[[int], str]] = {
    Bus.VIRTIO_BLK: lambda _: "virtio-blk-pci",
    Bus.VIRTIO_SCSI: lambda n: f"scsi-hd,bus=scsi0.0,scsi-id={n}",
    Bus.SATA: lambda n: f"ide-hd,bus=ide.{n}",
    Bus.IDE: lambda n: f"ide-hd,bus=ide.{n // 2},unit={n % 2}",
}


def _disk_node(name: str, disk: Disk) -> dict[str, object]:
    """The image, opened as what it is and never probed: a guest can write any header it likes.

    Discard has to be set at both layers to reach the host's filesystem.
    """
    node = _node(name, disk.format, disk.path)
    return node | {"discard": "unmap", "file": _file(disk.path) | {"discard": "unmap"}}


def _node(name: str, image_format: str, path: Path, *,
          read_only: bool = False) -> dict[str, object]:
    access: dict[str, object] = {"read-only": True} if read_only else {}
    return {"driver": image_format, "node-name": name, **access, "file": _file(path) | access}


def _file(path: Path) -> dict[str, object]:
    text = str(path)
    if not _is_utf8(text):
        raise UsageError(f"QEMU cannot be told of {text!r}: the name is not valid UTF-8",
                         hint="rename the file")
    # `file` takes regular files only.
    return {"driver": "host_device" if path.is_block_device() else "file", "filename": text}


def _blockdev(node: dict[str, object]) -> tuple[str, str]:
    """JSON, because a file's name may hold any character, commas and newlines included."""
    return "-blockdev", json.dumps(node, ensure_ascii=False)


def _nics(machine: Machine) -> tuple[str, ...]:
    words: list[str] = []
    for index, nic in enumerate(machine.nics):
        mac = f",mac={nic.mac}" if nic.mac else ""
        words += ("-netdev", f"{_netdev(nic)},id=net{index}",
                  # No boot ROM: nothing here boots from a network.
                  "-device", f"{nic.model},netdev=net{index}{mac},romfile=")
    return tuple(words)


def _netdev(nic: Nic) -> str:
    kind, _, bridge = nic.backend.partition("=")
    return f"bridge,br={_option(bridge)}" if kind == "bridge" else _NETDEVS[kind]


def _option(value: str) -> str:
    """`value` inside QEMU's key=value,key=value syntax."""
    return value.replace(",", ",,")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- the script ---------------------------------------------------------------------------------


def _header(machine: Machine) -> str:
    lines = [
        f"{machine.name}: starts the machine that imgconv proved this guest able to run on.",
        *machine.notes,
        "",
        "Further arguments go to QEMU. Variables:",
        "  IMGCONV_ACCEL=kvm|tcg       hardware acceleration or emulation",
        "  IMGCONV_DISPLAY=gtk|vnc=:1  the screen (whatever -display takes); none by default",
        "The guest's serial console is on this terminal: Ctrl-A X ends the machine, Ctrl-A C",
        "switches between the console and QEMU's monitor.",
    ]
    return "\n".join(["#!/bin/sh", *(comment(line) for line in lines), "set -eu"])


def _settings(machine: Machine, kvm: bool) -> str:
    return "\n".join([
        f"accel=${{IMGCONV_ACCEL:-{'kvm' if kvm else 'tcg'}}}",
        "display=${IMGCONV_DISPLAY:-none}",
        "case $accel in",
        f"    kvm) cpu={shlex.quote(cpu(machine, 'kvm'))} ;;",
        f"    *) cpu={shlex.quote(cpu(machine, 'tcg'))} ;;",
        "esac",
    ])


def _copy_once(template: Path, variables: Path) -> str:
    """The machine's own UEFI variables; renamed into place so that half a copy is never used."""
    return "\n".join([
        f"vars={shlex.quote(str(variables))}",
        'if [ ! -e "$vars" ]; then',
        f'    cat -- {shlex.quote(str(template))} >"$vars.new"',
        '    mv -- "$vars.new" "$vars"',
        "fi",
    ])


def _command(words: tuple[str, ...]) -> str:
    """`words` as a command, an option and its value a line."""
    lines: list[str] = []
    for word in words:
        if lines and not word.startswith("-"):
            lines[-1] += " " + _quote(word)
        else:
            lines.append(_quote(word))
    return " \\\n    ".join(["exec " + lines[0], *lines[1:], '"$@"']) + "\n"


def _quote(word: str) -> str:
    """`word` for a shell: a variable for those known only when the script runs."""
    return f'"${word[1:]}"' if word in (_ACCEL, _CPU, _DISPLAY) else shlex.quote(word)
