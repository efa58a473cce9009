from __future__ import annotations

import io
import resource
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imgconv.errors import ImgconvError
from imgconv.source import ova, read
from tests.unit.source.samples import (
    PLAIN,
    VSPHERE,
    appliance,
    archive,
    disk,
    envelope,
    file_entry,
    item,
    manifest,
    rasd,
)

CONTENT = bytes(range(256)) * 9000  # more than two pieces


def unpack(folder: Path, data: bytes) -> tuple[Path, ...]:
    path = folder / "guest.ova"
    path.write_bytes(data)
    (folder / "out").mkdir()
    return ova.unpack(path, folder / "out", lambda _: None)


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_disks_come_out_whole(tmp_path: Path, fmt: int, algorithm: str) -> None:
    files = appliance(CONTENT)
    files["guest.mf"] = manifest({k: v for k, v in files.items() if k != "guest.mf"}, algorithm)
    written = unpack(tmp_path, archive(files, fmt))
    assert [path.name for path in written] == ["guest-disk1.vmdk"]
    assert written[0].read_bytes() == CONTENT
    assert read(tmp_path / "guest.ova").notes == ()


def test_progress_goes_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "g.ova").write_bytes(archive(appliance(CONTENT)))
    seen: list[float] = []
    ova.unpack(tmp_path / "g.ova", tmp_path, seen.append)
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == 1


def test_disks_in_the_machines_order_whatever_the_archives(tmp_path: Path) -> None:
    files = {"m.ovf": VSPHERE.encode(), "mail 2.vmdk": b"second", "./mail-1.vmdk": b"first"}
    written = unpack(tmp_path, archive({f"./{k}" if k[0] != "." else k: v
                                        for k, v in files.items()}))
    assert [path.read_bytes() for path in written] == [b"first", b"second"]
    assert any("no manifest" in note for note in read(tmp_path / "guest.ova").notes)


@pytest.mark.parametrize("name", ["../../outside.vmdk", "/tmp/absolute.vmdk", "a/../../b.vmdk"])
def test_names_in_the_archive_are_no_paths(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    text = PLAIN.replace("disk.vmdk", name)
    before = set(tmp_path.rglob("*"))
    written = unpack(folder, archive({"guest.ovf": text.encode(), name: b"content"}))
    assert [path.name for path in written] == ["guest-disk1.vmdk"]
    made = set(tmp_path.rglob("*")) - before
    assert made == {folder / "guest.ova", folder / "out", written[0]}
    assert not Path("/tmp/absolute.vmdk").exists()


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "g.ova").write_bytes(archive(appliance()))
    (tmp_path / "g-disk1.vmdk").symlink_to(tmp_path / "victim")
    with pytest.raises(ImgconvError, match=r"g-disk1\.vmdk cannot be written: File exists"):
        ova.unpack(tmp_path / "g.ova", tmp_path, lambda _: None)
    assert not (tmp_path / "victim").exists()


def changed(**files: bytes | None) -> Callable[[], bytes]:
    """An appliance with these files instead; None leaves one out. `_` is a dot in names."""
    def make() -> bytes:
        found: dict[str, bytes | None] = {**appliance(), **{
            name.replace("_", "."): content for name, content in files.items()}}
        return archive({name: content for name, content in found.items() if content is not None})
    return make


def duplicate() -> bytes:
    return archive([*appliance().items(), ("disk.vmdk", b"others")])


@pytest.mark.parametrize(("make", "said"), [
    (changed(disk_vmdk=b"disk" * 999 + b"disc"), "disk.vmdk in the appliance is not what its"),
    (changed(guest_ovf=PLAIN.encode() + b" "), "guest.ovf in the appliance is not what its"),
    (changed(disk_vmdk=None), "the archive lacks disk.vmdk"),
    (changed(guest_mf=None, disk_vmdk=None), "lacks the disk 'disk.vmdk'"),
    (changed(guest_ovf=None), "no .ovf"),
    (changed(guest_mf=b"MD5(disk.vmdk)= 00"), "not readable"),
    (changed(guest_mf=b"SHA256(disk.vmdk)= " + b"0" * 40), "not readable"),
    (changed(guest_mf=b"SHA1(disk.vmdk)= " + b"0" * 40), "SHA1"),
    (changed(guest_mf=(b"SHA1(disk.vmdk)= " + b"0" * 40 + b"\n") * 2), "twice in the manifest"),
    (changed(other_ovf=b""), "2 files that end in .ovf"),
    (changed(other_mf=b""), "2 files that end in .mf"),
    (changed(guest_mf=None, guest_ovf=b" " * (5 << 20)), "which none of its kind has"),
    (duplicate, "two files in the archive have one name"),
    (lambda: archive(appliance())[:4096], "ends within"),
])
def test_refused(tmp_path: Path, make: Callable[[], bytes], said: str) -> None:
    with pytest.raises(ImgconvError) as caught:
        unpack(tmp_path, make())
    assert said in caught.value.message


def test_files_that_are_no_disks_are_checked_too(tmp_path: Path) -> None:
    files = appliance() | {"guest.nvram": b"variables"}
    files["guest.mf"] += manifest({"guest.nvram": b"others"})
    with pytest.raises(ImgconvError, match=r"guest\.nvram in the appliance is not"):
        unpack(tmp_path, archive(files))


def test_a_disk_that_the_manifest_leaves_out_is_noted() -> None:
    files = appliance()
    files["guest.mf"] = manifest({"guest.ovf": files["guest.ovf"]})
    files["guest.cert"] = b"-----BEGIN CERTIFICATE-----"
    notes = ova.parse(io.BytesIO(archive(files))).notes
    assert any("leaves out a disk" in note for note in notes)
    assert any("signed" in note for note in notes)


def test_one_file_is_not_two_disks(tmp_path: Path) -> None:
    text = envelope("".join(item(17, str(n), rasd(HostResource=f"ovf:/disk/vmdisk{n}"))
                            for n in (1, 2)),
                    file_entry(1, "disk.vmdk") + file_entry(2, "disk.vmdk"), disk(1) + disk(2))
    with pytest.raises(ImgconvError, match="two disks of the appliance are one file"):
        unpack(tmp_path, archive({"g.ovf": text.encode(), "disk.vmdk": b"x"}))


def test_compressed_disks_are_refused_with_a_remedy(tmp_path: Path) -> None:
    text = PLAIN.replace(file_entry(1, "disk.vmdk"),
                         file_entry(1, "disk.vmdk", 'ovf:compression="gzip"'))
    with pytest.raises(ImgconvError, match="gunzip") as caught:
        unpack(tmp_path, archive(appliance(ovf=text)))
    assert "--from" in caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    (tmp_path / "g.ova").write_bytes(archive(appliance(CONTENT)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ImgconvError, match=r"g-disk1\.vmdk cannot be written: File too large"):
            ova.unpack(tmp_path / "g.ova", tmp_path, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_too_little_room_is_known_before_anything_is_written(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("disk.vmdk")
    entry.size = 1 << 48
    path = tmp_path / "guest.ova"
    head = archive({"guest.ovf": PLAIN.encode()})
    head = head[:512 + -(-len(PLAIN.encode()) // 512) * 512]
    with path.open("wb") as file:
        file.write(head + entry.tobuf(tarfile.GNU_FORMAT))
        try:
            file.truncate(file.tell() + (1 << 48))  # sparse
        except OSError:
            entry.size = 15 << 40  # what ext4 takes
            file.seek(0)
            file.write(head + entry.tobuf(tarfile.GNU_FORMAT))
            file.truncate(file.tell() + (15 << 40))
    with pytest.raises(ImgconvError, match=r"MiB are needed to unpack the disks") as caught:
        ova.unpack(path, tmp_path, lambda _: None)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == [path]
