"""Whole guests with each boot loader (fixtures, see tests/guests.py): converted, proven, done once;
and a name that is left in any of their files is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv import linux, pipeline
from imgconv.errors import CannotConvert
from imgconv.linux import bootloader
from imgconv.linux.bootloader import (
    direct,
    extlinux,
    grub2,
    grub_legacy,
    lilo,
    systemd_boot,
    zipl,
)
from imgconv.model import Bus, Finding, Firmware, InitramfsMode, Level, Names, Options, WriteFile
from imgconv.verify import linux as verify
from tests.fake_guest import FakeGuest
from tests.guests import LOADERS, RELEASE, ROOT_UUID, SYSTEMD_BOOT, Legacy

SPLICE = Options(initramfs=InitramfsMode.SPLICE)
MODULES = {"grub2": grub2, "bare-grub2": grub2, "bls-el8": grub2, "bls-el9": grub2,
           "grub-legacy": grub_legacy, "grub.conf": grub_legacy, "extlinux": extlinux,
           "alpine": extlinux, "systemd-boot": systemd_boot, "direct": direct}
TWO = ("6.1.0-13-amd64", "5.9.0-1")


def converted(legacy: Legacy, options: Options = SPLICE) -> tuple[FakeGuest, list[Finding]]:
    guest, inspection = legacy.build()
    plan = pipeline.planned(guest, inspection, options)
    pipeline.apply(guest, plan)
    findings = pipeline.verified(guest, inspection, options, plan)
    return guest, [f for f in findings if f.level is not Level.PROVEN]


@pytest.mark.parametrize("names", Names)
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("legacy", [
    Legacy(releases=TWO), Legacy(disk="hda"), Legacy(disk="xvda", separate_boot=True),
    Legacy(names="uuid"), Legacy(second_disk=True)], ids=lambda legacy: legacy.label)
def test_converted_proven_and_done_once(legacy: Legacy, loader: str, names: Names) -> None:
    legacy = replace(legacy, loader=loader)
    options = replace(SPLICE, names=names)
    guest, left = converted(legacy, options)
    assert left == []
    assert bootloader.detect(guest) is MODULES[loader]
    _, inspection = legacy.build()
    assert pipeline.planned(guest, inspection, options).changes == ()
    kernels = linux.boot_chain(guest)[1]
    assert kernels[0].release == RELEASE
    assert {entry.cmdline for kernel in kernels for entry in kernel.entries}


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(LOADERS)), st.sampled_from(["sda", "hda", "xvda"]), st.booleans(),
       st.sampled_from(["device", "uuid"]), st.sampled_from(Names),
       st.sampled_from([Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI]))
def test_any_combination(loader: str, disk: str, separate: bool, by: str, names: Names,
                         bus: Bus) -> None:
    legacy = Legacy(loader=loader, disk=disk, separate_boot=separate, names=by)
    _, left = converted(legacy, Options(names, bus, InitramfsMode.SPLICE))
    assert left == []


@pytest.mark.parametrize("loader", LOADERS)
def test_every_name_that_is_left_is_noticed(loader: str) -> None:
    """Each file that the plan writes, written without one of its names: that is not proven."""
    legacy = Legacy(loader=loader, releases=TWO)
    guest, inspection = legacy.build()
    plan = linux.plan(guest, inspection, SPLICE)
    edits = [change for change in plan.changes if isinstance(change, WriteFile)
             and change.before is not None and b"/dev/sda" in change.before]
    assert edits or loader == "direct"
    for left in edits:
        assert left.before is not None
        before, after = left.before.split(b"\n"), left.content.split(b"\n")
        for number, line in enumerate(before):
            if line == after[number]:
                continue
            guest, _ = legacy.build()
            pipeline.apply(guest, plan)
            guest.files[left.path] = b"\n".join([*after[:number], line, *after[number + 1:]])
            if left.path.endswith("grubenv"):
                guest.files[left.path] = left.before
            if b"set kernelopts=" in line:
                continue  # only counts where the environment block has none
            findings = verify.verify(guest, inspection, plan)
            assert any(f.level is Level.FAILED for f in findings), (left.path, line)


def test_bls_without_environment() -> None:
    """Without kernelopts in the environment block, what grub.cfg sets counts."""
    legacy = Legacy(loader="bls-el8")
    guest, inspection = legacy.build()
    del guest.files["/boot/grub2/grubenv"]
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    assert b'set kernelopts="root=UUID=' in guest.files["/boot/grub2/grub.cfg"]
    assert pipeline.verified(guest, inspection, SPLICE, plan)
    guest.files["/boot/grub2/grub.cfg"] = guest.files["/boot/grub2/grub.cfg"].replace(
        b"root=UUID=" + ROOT_UUID.encode(), b"root=/dev/sda1")
    assert any(f.level is Level.FAILED for f in verify.verify(guest, inspection, plan))


# --- several, none, refused -----------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "used"), [
    ("grub2", "grub-legacy", grub_legacy),  # stage2 is there, and no core.img
    ("grub2", "grub.conf", grub2), ("grub2", "extlinux", extlinux),
    ("grub-legacy", "extlinux", grub_legacy), ("bls-el9", "systemd-boot", systemd_boot)])
def test_two_configurations(first: str, second: str, used: object) -> None:
    both = Legacy(loader=first, extra=LOADERS[second](Legacy()))
    guest, inspection = both.build()
    assert bootloader.detect(guest) is used
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    findings = verify.verify(guest, inspection, plan)
    assert [f.message for f in findings if f.level is Level.FAILED] == []
    assert any("is there as well" in f.message for f in findings)
    written = {change.path for change in plan.changes if isinstance(change, WriteFile)}
    assert {"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub/menu.lst"} & written
    assert linux.plan(guest, inspection, SPLICE).changes == ()


def test_core_img_decides() -> None:
    extra = {**LOADERS["grub-legacy"](Legacy()), "/boot/grub/i386-pc/core.img": b"core"}
    guest, inspection = Legacy(extra=extra).build()
    assert bootloader.detect(guest) is grub2
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    guest.files["/boot/grub/menu.lst"] = bytes(guest.files["/boot/grub/menu.lst"]).replace(
        b"root=UUID=" + ROOT_UUID.encode(), b"root=/dev/sda1")
    findings = verify.verify(guest, inspection, plan)
    assert any(f.level is Level.WARNING and "root=/dev/sda1 is no name" in f.message
               for f in findings)
    guest.files["/etc/lilo.conf"] = b"boot=/dev/sda\n"
    assert bootloader.detect(guest) is grub2


@pytest.mark.parametrize(("files", "message"), [
    ({"/etc/lilo.conf": "boot=/dev/hda\nroot=/dev/hda1\nimage=/vmlinuz\n"}, "LILO"),
    ({"/etc/zipl.conf": "[defaultboot]\ndefault=linux\n"}, "zipl")])
def test_refused_with_the_remedy(files: dict[str, str], message: str) -> None:
    guest, inspection = Legacy(loader="direct", extra=files).build()
    with pytest.raises(CannotConvert, match=message) as error:
        pipeline.planned(guest, inspection, SPLICE)
    assert "in the guest" in error.value.hint
    assert bootloader.detect(guest) in (lilo, zipl)


@pytest.mark.parametrize("path", ["/etc/default/grub", "/boot/grub/stage2", "/usr/bin/bootctl",
                                  "/boot/efi/EFI/BOOT/BOOTX64.EFI", "/boot/loader/loader.conf"])
def test_a_boot_loader_that_is_not_known_is_none_to_guess(path: str) -> None:
    guest, inspection = Legacy(loader="direct", extra={path: "x"}).build()
    with pytest.raises(CannotConvert, match="none that imgconv knows"):
        pipeline.planned(guest, inspection, SPLICE)


def test_direct_takes_the_newest_kernel_and_the_root_of_fstab() -> None:
    legacy = Legacy(loader="direct", releases=("5.9.0-1", "5.10.0-9"))
    guest, _ = legacy.build()
    (entry,) = direct.entries(guest)
    assert (entry.kernel, entry.initrds) == ("/boot/vmlinuz-5.10.0-9",
                                             ("/boot/initrd.img-5.10.0-9",))
    assert entry.cmdline == "root=/dev/sda1 rootfstype=ext4 ro"
    alpine = FakeGuest({"/boot/vmlinuz-virt": b"k", "/boot/initramfs-virt": b"i"})
    assert direct.entries(alpine)[0].initrds == ("/boot/initramfs-virt",)
    assert direct.entries(FakeGuest({"/boot/vmlinuz": b"k"}))[0].cmdline == ""
    assert not direct.detect(FakeGuest({"/etc/fstab": "/dev/sda1 / ext4 ro 0 1\n"}))


# --- systemd-boot and UEFI ------------------------------------------------------------------------


def test_unified_kernel_images() -> None:
    uki = {"/boot/EFI/Linux/arch-linux.efi": b"MZ"}
    guest, inspection = Legacy(loader="systemd-boot", extra=uki).build()
    pipeline.planned(guest, inspection, SPLICE)  # loader.conf names an entry
    guest.files["/boot/loader/loader.conf"] = b"timeout 3\n"
    with pytest.raises(CannotConvert, match="unified kernel image") as error:
        pipeline.planned(guest, inspection, SPLICE)
    assert "virtio" in error.value.hint


@pytest.mark.parametrize(("conf", "first"), [
    ("default *-5.9.0-1.conf\n", "5.9.0-1"), ("default *-5.9.0-1\n", "5.9.0-1"),
    ("default @saved\n", RELEASE), ("", RELEASE), ("default nothing\n", RELEASE),
    ("#default *-5.9.0-1\n", RELEASE)])
def test_default_of_systemd_boot(conf: str, first: str) -> None:
    guest, _ = Legacy(loader="systemd-boot", releases=("5.9.0-1", RELEASE), extra={
        "/boot/loader/loader.conf": conf}).build()
    assert systemd_boot.entries(guest)[0].kernel == f"/boot/vmlinuz-{first}"


def test_kernel_install_with_the_machines_id() -> None:
    """Kernels below the machine's id; on arm64 no file there tells the release."""
    ident = "0123456789abcdef0123456789abcdef"
    guest = FakeGuest({
        "/efi/EFI/systemd/systemd-bootaa64.efi": SYSTEMD_BOOT,
        f"/efi/{ident}/6.1/linux": b"MZ", f"/efi/{ident}/6.1/initrd.img": b"",
        f"/efi/loader/entries/{ident}-6.1+3.conf":
            f"title x\nversion 6.1.0-13-arm64\noptions root=/dev/sda2\noptions quiet\n"
            f"linux /{ident}/6.1/linux\ninitrd /{ident}/6.1/initrd.img\n",
        "/lib/modules/6.1.0-13-arm64/modules.builtin": "kernel/x/virtio_blk.ko\n"})
    assert systemd_boot.detect(guest)
    (kernel,) = linux.boot_chain(guest)[1]
    assert (kernel.release, kernel.image) == ("6.1.0-13-arm64", f"/efi/{ident}/6.1/linux")
    assert kernel.entries[0].cmdline == "root=/dev/sda2 quiet"


SHIM = b"MZ shim " + "\\grubx64.efi".encode("utf-16-le")
ESP = "/boot/efi/EFI"


@pytest.mark.parametrize(("files", "written"), [
    ({f"{ESP}/debian/shimx64.efi": SHIM, f"{ESP}/debian/grubx64.efi": b"MZ grub",
      f"{ESP}/debian/mmx64.efi": b"MZ mm",
      f"{ESP}/debian/grub.cfg": "search.fs_uuid x root\nconfigfile $prefix/grub.cfg\n"},
     {"BOOTX64.EFI": SHIM, "grubx64.efi": b"MZ grub", "mmx64.efi": b"MZ mm",
      "grub.cfg": b"search.fs_uuid x root\nconfigfile $prefix/grub.cfg\n"}),
    ({f"{ESP}/DEBIAN/GRUBX64.EFI": b"MZ grub"}, {"BOOTX64.EFI": b"MZ grub"}),
    ({f"{ESP}/debian/shimx64.efi": SHIM}, {}),
    ({f"{ESP}/systemd/systemd-bootx64.efi": SYSTEMD_BOOT}, {"BOOTX64.EFI": SYSTEMD_BOOT}),
    ({f"{ESP}/ubuntu/grubx64.efi": b"MZ ubuntu", f"{ESP}/debian/grubx64.efi": b"MZ debian",
      f"{ESP}/Microsoft/grubx64.efi": b"MZ"}, {"BOOTX64.EFI": b"MZ debian"}),
    ({f"{ESP}/debian/grubx64.efi": b"MZ grub",
      f"{ESP}/debian/grub.cfg": "menuentry 'x' {\n\tlinux /gone\n}\nconfigfile\n"},
     {"BOOTX64.EFI": b"MZ grub", "grub.cfg": b"configfile /EFI/debian/grub.cfg\n"})])
def test_the_fallback_is_written(files: dict[str, bytes | str], written: dict[str, bytes]) -> None:
    guest, inspection = Legacy(extra=files).build()
    inspection = replace(inspection, firmware=Firmware.UEFI)
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    folder = f"{ESP}/BOOT/"
    assert {path.removeprefix(folder): content for path, content in guest.files.items()
            if path.startswith(folder)} == written
    failed = [f.message for f in verify.verify(guest, inspection, plan)
              if f.level is Level.FAILED and f.subject == "UEFI"]
    assert bool(failed) is not bool(written)
    assert linux.plan(guest, inspection, SPLICE).changes == ()


def test_a_fallback_is_left_alone_unless_it_cannot_work() -> None:
    files: dict[str, bytes | str] = {f"{ESP}/debian/grubx64.efi": b"MZ grub",
                                     "/boot/efi/EFI/boot/bootx64.efi": b"MZ other"}
    guest, inspection = Legacy(extra=files).build()
    inspection = replace(inspection, firmware=Firmware.UEFI)
    plan = linux.plan(guest, inspection, SPLICE)
    assert not [change for change in plan.changes if "efi" in getattr(change, "path", "")]
    guest.files["/boot/efi/EFI/boot/bootx64.efi"] = SHIM  # with no GRUB beside it
    findings = verify.verify(guest, inspection, plan)
    assert any("shim" in f.message and f.level is Level.FAILED for f in findings)
    guest.files["/boot/efi/EFI/boot/bootx64.efi"] = b""
    assert any("no program" in f.message for f in verify.verify(guest, inspection, plan))
    plan = linux.plan(guest, inspection, SPLICE)
    assert [change.path for change in plan.changes if isinstance(change, WriteFile)
            and "EFI" in change.path] == ["/boot/efi/EFI/boot/bootx64.efi"]


def test_a_guest_without_virtio_gets_the_fallback_too() -> None:
    guest, inspection = Legacy(virtio="absent", extra={
        f"{ESP}/debian/grubx64.efi": b"MZ grub"}).build()
    plan = linux.plan(guest, replace(inspection, firmware=Firmware.UEFI), SPLICE)
    assert [change.path for change in plan.changes if isinstance(change, WriteFile)] == [
        f"{ESP}/BOOT/BOOTX64.EFI"]
