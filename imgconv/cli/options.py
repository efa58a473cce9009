"""The arguments and options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from imgconv.model import Names

Disks = Annotated[list[Path], typer.Argument(
    metavar="DISK...", help="The disks of ONE guest, in order.", show_default=False)]
DisksOrSource = Annotated[list[Path] | None, typer.Argument(
    metavar="[DISK...]", help="The disks of ONE guest, in order; without any, those that --from "
                              "names. An OVA is a guest by itself.", show_default=False)]
Source = Annotated[Path | None, typer.Option(
    "--from", metavar="PATH",
    help="What the source's hypervisor wrote about it (VMX, libvirt's XML, OVF, OVA): memory, "
         "processors, Secure Boot, TPM and network cards are taken from it.")]
InputFormat = Annotated[str | None, typer.Option(
    "--input-format", metavar="FMT",
    help="The disks' format (raw, qcow2, vmdk, vdi, vhdx, vpc); otherwise told by its magic.")]
AllowExternalFiles = Annotated[bool, typer.Option(
    "--allow-external-files",
    help="Accept a disk or description that names files outside its own folder (backing file, "
         "extents, disks).")]
Root = Annotated[str | None, typer.Option(
    "--root", metavar="DEV", help="The root filesystem, when there are several systems.")]
NamesOption = Annotated[Names, typer.Option(
    "--names", help="How fstab and boot loader name disks afterwards: by UUID (boots on the old "
                    "bus, too) or by the new device name.")]
Block = Annotated[Literal["virtio-blk", "virtio-scsi"], typer.Option(
    "--block", help="What the disks hang on afterwards.")]
Drivers = Annotated[Path | None, typer.Option(
    "--drivers", metavar="PATH", help="The drivers for Windows: a virtio-win ISO or folder.",
    show_default="drivers/, $VIRTIO_WIN, the user's, /usr/share/virtio-win")]
Net = Annotated[str, typer.Option(
    "--net", metavar="user|tap|bridge=NAME", help="The network of the machine.")]
Memory = Annotated[int | None, typer.Option(
    "--memory", metavar="MIB", help="The machine's memory in MiB.",
    show_default="the source's, else 2048")]
Cpus = Annotated[int | None, typer.Option(
    "--cpus", metavar="N", help="The machine's processors.", show_default="the source's, else 2")]
StateDir = Annotated[Path | None, typer.Option(
    "--state-dir", metavar="DIR", envvar="IMGCONV_STATE_DIR",
    help="Where what an undo needs is kept.", show_default="beside the disk: .NAME.imgconv")]
