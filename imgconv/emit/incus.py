"""A shell script that makes the machine in Incus, on whose server it runs.

Incus' virtual machines are q35 with virtio behind PCIe, and boot by UEFI; `security.csm` starts
what wants a BIOS. There is no IDE, no SATA and no network card but virtio-net. The first disk
becomes an image of two parts (metadata and qcow2), the instance a copy of that; Incus cannot import
further block volumes, so further disks are raw files or block devices outside its pools.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from imgconv.emit import loader, shell
from imgconv.emit.names import dns_label
from imgconv.errors import CannotConvert
from imgconv.model import Bus, Disk, Firmware, Machine, Nic

NAME = "incus"
SUFFIX = ".incus.sh"
HERE = False

_BUSES = {Bus.VIRTIO_BLK: "virtio-blk", Bus.VIRTIO_SCSI: "virtio-scsi"}
_ARCHES = {"i386": "x86_64"}  # what it runs on


def _arguments(machine: Machine) -> tuple[shell.Argument, ...]:
    name = dns_label(machine.name)
    return (
        shell.Argument("NAME", name, "A-Za-z0-9-",
                       f"the instance's name; {name} by default"),
        shell.Argument("POOL", "default", "A-Za-z0-9_.-",
                       "the storage pool; default by default"),
        shell.Argument("NETWORK", "incusbr0", "A-Za-z0-9_.:-",
                       "the network; incusbr0 by default"),
    )


def emit(machine: Machine, *, kvm: bool = False,
         firmware_files: tuple[Path, Path] | None = None) -> str:
    """The script. Incus has KVM and firmware of its own, so neither argument is used.

    Raises UsageError for a path that is not UTF-8, CannotConvert for a machine that Incus does not
    have.
    """
    loader.require(machine, "Incus")
    _check(machine)
    return "\n".join([
        shell.header(_about(machine), _arguments(machine)),
        "",
        'work=$(mktemp -d "${TMPDIR:-/tmp}/imgconv.XXXXXX")',
        "trap 'rm -rf -- \"$work\"' EXIT",
        "trap 'exit 1' HUP INT TERM",
        _metadata(machine),
        _convert(machine.disks[0], "qcow2", '"$work/disk.qcow2"'),
        # The image's own line starts at the first column; those of the files below it do not.
        'size=$(qemu-img info -- "$work/disk.qcow2" |',
        "    sed -n 's/^virtual size:.*(\\([0-9]*\\) bytes).*/\\1/p')",
        'incus image import "$work/metadata.tar" "$work/disk.qcow2" --alias "imgconv-$name"',
        _init(machine) + ' || {\n    incus image delete "imgconv-$name"\n    exit 1\n}',
        'incus image delete "imgconv-$name"',
        *(_nic(index, nic) for index, nic in enumerate(machine.nics)),
        *(_further_disk(machine, index) for index in range(1, len(machine.disks))),
        *(['incus config device add "$name" tpm tpm'] if machine.tpm else []),
        'echo "instance $name is there: incus start $name --console"',
        "",
    ])


def _check(machine: Machine) -> None:
    if machine.bus not in _BUSES:
        raise CannotConvert(f"Incus has virtio disks only, and this guest's are on {machine.bus}",
                            hint="convert it to virtio, or use another output")
    if machine.machine_type == "pc":
        raise CannotConvert("Incus has q35 machines only, and this guest needs the older pc: its "
                            "virtio drivers or its system are too old", hint="use another output")


def _about(machine: Machine) -> list[str]:
    lines = [f"{machine.name}: makes this machine in Incus; run it on Incus' server.",
             *machine.notes, "The first disk is copied (in $TMPDIR, then into the pool)."]
    if len(machine.disks) > 1:
        lines.append("Further disks stay outside the pool: raw ones are used where they are, of "
                     "others a raw copy is made in the current folder.")
    if any(nic.model != "virtio-net-pci" for nic in machine.nics):
        lines.append("The network card is virtio-net, because Incus has no other; the guest has no "
                     "proven driver for it.")
    if machine.localtime:
        lines.append("The hardware's clock keeps UTC here; the guest takes it for local time.")
    return lines


def _metadata(machine: Machine) -> str:
    """What an image's metadata must say, packed. Incus treats a Windows differently by its os."""
    windows = machine.os.startswith("win")
    lines = [f"architecture: {_ARCHES.get(machine.arch, machine.arch)}",
             "creation_date: %s",
             "properties:",
             f"  os: {'Windows' if windows else 'Linux'}",
             f"  description: {dns_label(machine.name)}"]
    text = "".join(line + "\\n" for line in lines)
    return (f'printf {shlex.quote(text)} "$(date +%s)" >"$work/metadata.yaml"\n'
            'tar -C "$work" -cf "$work/metadata.tar" metadata.yaml')


def _convert(disk: Disk, output_format: str, target: str) -> str:
    return (f"qemu-img convert -f {disk.format} -O {output_format} -- \\\n"
            f"    {_path(disk)} {target}")


def _init(machine: Machine) -> str:
    uefi = machine.firmware is Firmware.UEFI
    settings = {
        "limits.cpu": str(machine.cpus),
        "limits.memory": f"{machine.memory}MiB",
        "security.secureboot": "true" if machine.secure_boot else "false",
        "security.csm": "false" if uefi else "true",
    }
    words = ["incus", "init", '"imgconv-$name"', '"$name"', "--vm", "--storage", '"$pool"']
    for key, value in settings.items():
        words += ["-c", f"{key}={value}"]
    words += ["-d", f'root,size="$size"B,io.bus={_BUSES[machine.bus]},boot.priority=10']
    return shell.command(words)


def _nic(index: int, nic: Nic) -> str:
    kind, _, bridge = nic.backend.partition("=")
    where = (f"nictype=bridged {shlex.quote(f'parent={bridge}')}" if kind == "bridge"
             else 'network="$network"')
    mac = f" hwaddr={nic.mac}" if nic.mac else ""
    return f'incus config device add "$name" eth{index} nic {where}{mac}'


def _further_disk(machine: Machine, index: int) -> str:
    disk = machine.disks[index]
    lines = []
    source = shlex.quote(f"source={_text(disk)}")
    if disk.format != "raw":
        target = f'"$PWD/$name-disk{index}.raw"'
        lines.append(_convert(disk, "raw", target))
        source = f"source={target}"
    lines.append(f'incus config device add "$name" disk{index} disk \\\n    {source} '
                 f"io.bus={_BUSES[machine.bus]}")
    return "\n".join(lines)


def _path(disk: Disk) -> str:
    return shlex.quote(_text(disk))


def _text(disk: Disk) -> str:
    return shell.utf8(str(disk.path), "Incus")
