"""What `imgconv inspect` tells of a Linux guest: facts only, no plan."""

from __future__ import annotations

from dataclasses import dataclass

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.linux import boot_chain, cmdline, crypttab, fstab, initramfs
from imgconv.linux.initramfs import check
from imgconv.linux.kernels import DRIVERS, Kernel
from imgconv.model import Bus, Inspection


@dataclass(frozen=True, slots=True)
class InitramfsFacts:
    """`drivers` maps each virtio driver to what is wrong with it, "" for nothing; `problem` says
    why the initramfs cannot be read, "" when it can."""

    path: str
    size: int
    members: tuple[str, ...]
    drivers: dict[str, str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """`drivers` maps a driver to where it is: "built in", "module" or "absent"."""

    release: str
    image: str
    default: bool
    drivers: dict[str, str]
    initramfs: InitramfsFacts | None


@dataclass(frozen=True, slots=True)
class Survey:
    """`names` are (file, device name) pairs: every name by which the guest finds a disk."""

    boot_loader: str
    initramfs_tool: str
    kernels: tuple[KernelFacts, ...]
    names: tuple[tuple[str, str], ...]


_DRIVERS = ("virtio_blk", "virtio_scsi", "virtio_pci", "virtio_net", "virtio_balloon",
            "virtio_rng")


def survey(reader: Reader, inspection: Inspection) -> Survey:
    """Raises CannotConvert when the boot loader is unknown or offers no kernel."""
    loader, kernels = boot_chain(reader)
    tools = ", ".join(tool.NAME for tool in initramfs.installed(reader))
    names = [(fstab.PATH, line.spec) for line in fstab.lines(reader)
             if line.spec.startswith(("/dev/", "UUID=", "LABEL=", "PARTUUID="))]
    names += [(crypttab.PATH, spec) for spec in crypttab.specs(reader)]
    names += [(entry.source, spec) for kernel in kernels for entry in kernel.entries
              for _, spec in cmdline.devices(entry.cmdline)]
    return Survey(loader.NAME, tools or "none known",
                  tuple(_kernel(reader, inspection, kernel, default=index == 0)
                        for index, kernel in enumerate(kernels)),
                  tuple(dict.fromkeys(names)))


def _kernel(reader: Reader, inspection: Inspection, kernel: Kernel, *,
            default: bool) -> KernelFacts:
    states = {name: kernel.tree.state(name) for name in _DRIVERS}
    return KernelFacts(kernel.release, kernel.image, default, states,
                       _initramfs(reader, inspection, kernel))


def _initramfs(reader: Reader, inspection: Inspection, kernel: Kernel) -> InitramfsFacts | None:
    path = kernel.initramfs
    if path is None:
        return None
    try:
        content = initramfs.read(reader, kernel.initrds)
    except ImgconvError as error:
        return InitramfsFacts(path, reader.size(path) or 0, (), {}, error.message)
    drivers = {}
    tool = initramfs.tool_of(reader, content)
    if tool is not None:
        for name in DRIVERS[Bus.VIRTIO_BLK]:
            result = check.drivers(content, kernel.tree, kernel.arch or inspection.arch, (name,),
                                   tool)
            drivers[name] = "; ".join(result.problems)
    return InitramfsFacts(path, content.size, tuple(m.kind for m in content.members), drivers)
