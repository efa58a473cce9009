"""Payloads: every layout and kind of image, which package is taken, and what is refused and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from imgconv.windows import payload_find, payload_labels, payload_tree, virtio_win
from imgconv.windows.payload_tree import BadPayload
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import Selection, open_payload
from tests import windows_payloads as made
from tests.windows_data import SAMPLE_ISO, needs_data

MSI = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(100)
WIN10 = WindowsVersion(10, 0, 19045, "amd64")


def windows(word: str, arch: str = "amd64") -> WindowsVersion:
    label = payload_labels.label(word)
    assert label is not None
    return label.version(arch)


def select(root: Path, folders: Mapping[str, Mapping[str, bytes]],
           version: WindowsVersion = WIN10) -> Selection:
    made.write(root, made.tree(folders))
    with open_payload(root) as payload:
        return payload.select(version)


def origins(selection: Selection) -> list[str]:
    return [package.origin.partition("/")[2] for package in selection.packages]


# --- images and folders ---------------------------------------------------------------------------

FILES = made.tree({"viostor/w10/amd64": made.package(), "NetKVM/w10/amd64": made.package("netkvm"),
                   "guest-agent": {"qemu-ga-x86_64.msi": MSI}})


@pytest.mark.parametrize("kind", ["joliet", "rock_ridge", "udf", "plain", "folder"])
def test_every_kind_of_payload(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "virtio-win.iso"
    if kind == "folder":
        made.write(path, FILES)
    else:
        made.iso(path, FILES, kind=kind)
    with open_payload(path) as payload:
        found = payload.select(WIN10)
    assert [package.name for package in found.packages] == ["netkvm", "viostor"]
    package = found.package("viostor")
    assert package is not None
    assert package.files == made.package()
    assert (package.arch, package.signer, package.warnings) == ("amd64", "Test Corp", WARNED)
    assert package.origin.lower() == "virtio-win.iso/viostor/w10/amd64"
    assert found.package("qxl") is None
    assert found.agent is not None
    assert (found.agent[0].lower(), found.agent[1]) == ("qemu-ga-x86_64.msi", MSI)
    assert (found.refused, found.unsuited) == ((), ())


WARNED = ("it is signed by Test Corp, not by Microsoft: this Windows does not start with it under "
          "Secure Boot",)


def test_contents_are_read_when_they_are_needed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FILES | made.tree({f"viostor/{word}/{arch}": made.package()
                               for word in ("w7", "w8", "w11") for arch in ("x86", "arm64")})
    read: list[str] = []
    real = payload_tree.Tree.read

    def noting(self: payload_tree.Tree, path: str, limit: int = 1 << 30) -> bytes:
        read.append(path.lower())
        return real(self, path, limit)

    monkeypatch.setattr(payload_tree.Tree, "read", noting)
    with open_payload(made.iso(tmp_path / "a.iso", files)) as payload:
        assert read == []
        payload.select(WIN10)
    assert sorted(set(read)) == sorted(path.lower() for path in FILES)


def test_a_folder_with_nothing_but_an_iso(tmp_path: Path) -> None:
    made.iso(tmp_path / "virtio-win-0.1.96.iso", made.tree({"old/w10/amd64": made.package("old")}))
    made.iso(tmp_path / "virtio-win-0.1.271.iso", FILES)
    with open_payload(tmp_path) as payload:
        assert payload.path.name == "virtio-win-0.1.271.iso"


def test_links_that_lead_out_are_not_there(tmp_path: Path) -> None:
    outside = made.write(tmp_path / "outside", made.package("secret"))
    root = made.write(tmp_path / "root", made.tree({"viostor/w10/amd64": made.package()}))
    (root / "linked").mkdir()
    for name in ("secret.inf", "secret.sys", "secret.cat"):
        (root / "linked" / name).symlink_to(outside / name)
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "inside.inf").symlink_to("viostor/w10/amd64/viostor.inf")
    os.mkfifo(root / "pipe.inf")
    with payload_tree.open_tree(root) as tree:
        assert set(tree.files.values()) == {
            "inside.inf", *(f"viostor/w10/amd64/viostor.{end}" for end in ("inf", "sys", "cat"))}
        (root / "inside.inf").unlink()
        (root / "inside.inf").symlink_to(outside / "secret.inf")
        with pytest.raises(BadPayload, match="leads out"):
            tree.read("inside.inf")


def test_letter_case_does_not_matter(tmp_path: Path) -> None:
    files = {name.upper(): data for name, data in made.package().items()}
    found = select(tmp_path, {"VioStor/W10/AMD64": files})
    package = found.package("viostor")
    assert package is not None
    assert set(package.files) == {"viostor.inf", "viostor.sys", "viostor.cat"}


@pytest.mark.parametrize(("content", "why"), [
    (b"", "cannot be read as an ISO"), (bytes(100_000), "cannot be read as an ISO"),
    (None, "does not exist"),
])
def test_no_payload(content: bytes | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.iso").write_bytes(content)
    with pytest.raises(BadPayload, match=why) as caught:
        open_payload(tmp_path / "a.iso")
    assert "virtio-win" in caught.value.hint


def test_a_payload_has_drivers(tmp_path: Path) -> None:
    with pytest.raises(BadPayload, match="no INF file"):
        open_payload(made.iso(tmp_path / "debian.iso", {"a/readme.txt": b"hello"}))


def test_an_iso_that_is_cut_off(tmp_path: Path) -> None:
    path = made.iso(tmp_path / "a.iso", FILES)
    whole = path.read_bytes()
    with open_payload(path) as payload:
        os.truncate(path, 30 * 2048)
        found = payload.select(WIN10)
    assert found.packages == ()
    assert all("the image is incomplete" in refusal.why for refusal in found.refused)
    assert [one.name for one in found.refused] == ["netkvm", "viostor", "guest agent"]
    for size in (20_000, 40_000, len(whole) // 2, len(whole) - 20_000):
        path.write_bytes(whole[:size])
        with pytest.raises(BadPayload, match="cannot be read as an ISO"):
            open_payload(path)


def test_damaged_isos_are_errors(tmp_path: Path) -> None:
    path = made.iso(tmp_path / "a.iso", FILES, kind="rock_ridge")
    whole = path.read_bytes()
    for at in range(16 * 2048, 40 * 2048, 997):
        path.write_bytes(whole[:at] + b"\xff\xff" + whole[at + 2:])
        with suppress(BadPayload), open_payload(path) as payload:
            payload.select(WIN10)


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_find, "__file__", str(tmp_path / "a/b/c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("VIRTIO_WIN", raising=False)
    user = tmp_path / "data/imgconv/drivers/virtio-win-0.1.100.iso"
    user.parent.mkdir(parents=True)
    user.touch()
    assert virtio_win.find() == user
    made.write(tmp_path / "drivers", {"viostor.INF": b""})
    assert virtio_win.find() == tmp_path / "drivers"
    monkeypatch.setenv("VIRTIO_WIN", str(user))
    assert virtio_win.find() == user
    monkeypatch.setenv("VIRTIO_WIN", str(tmp_path / "gone"))
    with pytest.raises(BadPayload, match="gone is no usable driver payload: it does not exist"):
        open_payload()


# --- which package --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [
    "viostor/w10/amd64", "amd64/Win10", "drivers/by-os/amd64/w10", "by-driver/viostor/w10/x64",
    "w10", "amd64", "."])
def test_every_layout(folder: str, tmp_path: Path) -> None:
    found = select(tmp_path, {folder: made.package() | made.package("netkvm")})
    assert [package.name for package in found.packages] == ["netkvm", "viostor"]


@pytest.mark.parametrize(("guest", "folders", "taken"), [
    ("w10", "w7 w8 w10 2k16 2k19 w11", "w10"), ("2k16", "w10 2k16 2k19 w8", "2k16"),
    ("2k22", "w10 2k16 2k19 w11", "2k19"), ("w11", "w10 2k22 2k25", "w10"),
    ("w11", "2k16 2k22", "2k22"), ("2k12R2", "w8.1 2k12 w7", "w8.1"),
    ("2k12R2", "2k12R2 w8.1", "2k12R2"), ("w7", "2k8R2 xp", "2k8R2"), ("2k25", "w11 2k22", "2k22"),
    ("w10", "w11 w7", "w7"), ("w10", "w11 2k25", None)])
def test_the_nearest_windows(guest: str, folders: str, taken: str | None, tmp_path: Path) -> None:
    package = made.package(decoration="NTamd64")
    found = select(tmp_path, {f"viostor/{word}/amd64": package for word in folders.split()},
                   windows(guest))
    assert origins(found) == ([f"viostor/{taken}/amd64"] if taken else [])
    if taken is None:
        [absent] = found.unsuited
        assert absent.why == "it is there only for amd64 (w11 2k25)"


def test_the_newest_of_equals(tmp_path: Path) -> None:
    found = select(tmp_path, {
        "a/w10/amd64": made.package(version="01/01/2020,9.9.9.9"),
        "b/w10/amd64": made.package(version="01/02/2020,1.0.0.0"),
        "c/w10/amd64": made.package(version="01/02/2020,1.0.0.1"),
        "d/w8/amd64": made.package(version="01/01/2024,2.0.0.0")})
    assert origins(found) == ["c/w10/amd64"]


def test_an_inf_for_another_windows_is_passed_over(tmp_path: Path) -> None:
    folders = {"viostor/w10/amd64": made.package(decoration="NTamd64.10.0...20000"),
               "viostor/w8/amd64": made.package(decoration="NTamd64.6.2")}
    found = select(tmp_path, folders)
    assert (origins(found), found.refused) == (["viostor/w8/amd64"], ())
    found = select(tmp_path, folders, windows("w7"))
    assert (found.packages, found.refused) == ((), ())
    found = select(tmp_path, {}, windows("w10", "x86"))
    assert [one.why for one in found.unsuited] == ["it is there only for amd64 (w8 w10)"]


# --- what is refused ------------------------------------------------------------------------------


def changed(name: str, **options: object) -> dict[str, bytes]:
    """A package of which one file is another than its catalog lists."""
    files = made.package()
    files[name] = made.pe(content=b"other") if name.endswith(".sys") else \
        made.inf("viostor", version="01/01/2024,1.0.0.0")
    return files


UNSIGNED = made.package(signed=False)
REFUSED: list[tuple[dict[str, bytes], str]] = [
    (made.package(machine=made.X86), "viostor.sys is for x86, the guest is amd64"),
    (UNSIGNED, "viostor.sys is not signed, and there is no catalog"),
    (changed("viostor.sys"), "viostor.cat does not list viostor.sys as it is here"),
    (changed("viostor.inf"), "viostor.cat does not list viostor.inf as it is here"),
    (made.package(crossed=False), "certificate that does not lead to Microsoft"),
    (made.package(copies=("viostor.sys", "extra.dll")), "extra.dll, which its INF copies, is miss"),
    (made.package() | {"viostor.cat": b"nothing"}, "viostor.cat: this is no usable security "),
    (made.package() | {"viostor.cat": made.package()["viostor.cat"].replace(
        b"240101000000Z", b"240101000001Z", 1)}, "the signature of viostor.cat is broken"),
    (made.package() | {"viostor.sys": b"MZ"}, "viostor.sys: this is no usable PE file"),
    (made.package() | {"viostor.inf": b"[Version"}, ""),
]


@pytest.mark.parametrize(("files", "why"), REFUSED)
def test_refused(files: dict[str, bytes], why: str, tmp_path: Path) -> None:
    found = select(tmp_path, {"viostor/w10/amd64": files})
    assert found.packages == ()
    [refusal] = found.refused or found.unsuited
    assert why in refusal.why
    assert refusal.name == "viostor"
    assert not why or refusal.origin == f"{tmp_path.name}/viostor/w10/amd64"


def test_the_next_best_is_taken(tmp_path: Path) -> None:
    """As with virtio-win's own for 2012 R2, which Windows does not load; those for 7 it does."""
    found = select(tmp_path, {
        "vioscsi/2k12R2/amd64": made.package("vioscsi", crossed=False, decoration="NTamd64.6.3"),
        "vioscsi/2k8R2/amd64": made.package("vioscsi", decoration="NTamd64.6.1")},
        windows("2k12R2"))
    assert origins(found) == ["vioscsi/2k8R2/amd64"]
    assert [refusal.origin.partition("/")[2] for refusal in found.refused] == [
        "vioscsi/2k12R2/amd64"]


def test_32_bits_need_no_signature(tmp_path: Path) -> None:
    package = made.package(machine=made.X86, signed=False, decoration="NTx86")
    found = select(tmp_path, {"viostor/w10/x86": package}, windows("w10", "x86"))
    [one] = found.packages
    assert (one.signer, one.warnings) == (
        "", ("it has no catalog, so Windows asks before it installs it",))


@pytest.mark.parametrize(("guest", "digest", "warned"), [
    ("w7", "sha256", True), ("2k8R2", "sha256", True), ("w8", "sha256", False),
    ("w7", "sha1", False)])
def test_sha2_on_old_windows(guest: str, digest: str, warned: bool, tmp_path: Path) -> None:
    found = select(tmp_path, {"viostor": made.package(decoration="NTamd64", digest=digest)},
                   windows(guest))
    [package] = found.packages
    assert any("KB4474419" in warning for warning in package.warnings) is warned


def test_a_boot_driver_signed_by_its_catalog_only(tmp_path: Path) -> None:
    files = {"viostor.inf": made.inf("viostor"), "viostor.sys": made.pe(signed=False)}
    found = select(tmp_path, {"viostor": files | {"viostor.cat": made.catalog(files)}})
    assert any("no signature of its own" in warning for warning in found.packages[0].warnings)


def test_display_drivers_of_xp(tmp_path: Path) -> None:
    files = {"qxl.inf": made.inf("qxl", decoration="NTamd64"),
             "qxl.sys": made.pe(imports={"videoprt.sys": ("VideoPortInitialize",)})}
    folders = {"qxl/w7/amd64": files | {"qxl.cat": made.catalog(files)}}
    assert origins(select(tmp_path, folders, windows("w7"))) == ["qxl/w7/amd64"]
    found = select(tmp_path, folders)
    assert (found.packages, found.refused) == ((), ())
    assert "Windows 8 and newer" in found.unsuited[0].why


@pytest.mark.parametrize(("arch", "name", "content", "there"), [
    ("x86", "qemu-ga-i386.msi", MSI, True), ("x86", "qemu-ga-x86.msi", MSI, True),
    ("amd64", "qemu-ga-x64.msi", MSI, True), ("amd64", "qemu-ga-i386.msi", MSI, False),
    ("amd64", "qemu-ga-x86_64.msi", b"<html>", False)])
def test_the_guest_agent(arch: str, name: str, content: bytes, there: bool,
                         tmp_path: Path) -> None:
    found = select(tmp_path, {"guest-agent": {name: content}, "a": made.package()},
                   windows("w10", arch))
    assert found.agent == ((name, content) if there else None)
    assert [one.why for one in found.refused if one.name == "guest agent"] == (
        [] if content == MSI else ["it is no Windows Installer package"])


# --- the real one ---------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize(("guest", "arch", "taken"), [
    ("w10", "amd64", {"netkvm": "w10", "vioscsi": "w10", "viostor": "w10"}),
    ("2k16", "amd64", {"netkvm": "2k16", "vioscsi": "2k16", "viostor": "2k16"}),
    ("2k22", "amd64", {"netkvm": "2k16", "vioscsi": "2k16", "viostor": "2k16"}),
    ("w11", "amd64", {"netkvm": "w10", "vioscsi": "w10", "viostor": "w10"}),
    ("w8.1", "amd64", {"netkvm": "w8.1", "vioscsi": "w8.1", "viostor": "w8.1"}),
    ("2k12", "amd64", {"netkvm": "2k12", "vioscsi": "2k12", "viostor": "2k12"}),
    ("w7", "amd64", {"netkvm": "w7", "qxl": "w7", "vioscsi": "w7", "viostor": "w7"}),
    ("w7", "x86", {"viostor": "w7"}), ("xp", "x86", {}), ("w10", "arm64", {})])
def test_the_sample(guest: str, arch: str, taken: dict[str, str]) -> None:
    with open_payload(SAMPLE_ISO) as payload:
        found = payload.select(windows(guest, arch))
    assert {package.name: package.origin.split("/")[2] for package in found.packages} == taken
    assert found.refused == ()
    for package in found.packages:
        assert {"inf", "sys", "cat"} <= {name[-3:] for name in package.files}
        assert package.signer == ("Microsoft Windows Hardware Compatibility Publisher"
                                  if package.name == "qxl" else "Red Hat, Inc.")
