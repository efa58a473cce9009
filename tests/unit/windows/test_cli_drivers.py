"""`imgconv drivers`: what is shown of a payload, the statuses, and the import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from imgconv.cli import app
from imgconv.windows import payload_find
from tests import windows_payloads as made

GOOD = made.tree({
    "viostor/w10/amd64": made.package(), "viostor/2k16/amd64": made.package(),
    "viostor/w10/x86": made.package(machine=made.X86, decoration="NTx86.10.0"),
    "vioscsi/w7/amd64": made.package("vioscsi", decoration="NTamd64.6.1", digest="sha256")})


def drivers(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["drivers", *map(str, arguments)])


def document(result: Result) -> Any:  # noqa: ANN401
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    return made.iso(tmp_path / "virtio-win.iso", GOOD)


def test_list(iso: Path) -> None:
    result = drivers("list", iso)
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["vioscsi", "100.1.2.3", "2017-07-19", "amd64", "w7"] in lines
    assert ["viostor", "100.1.2.3", "2017-07-19", "amd64", "w10", "2k16"] in lines
    assert ["viostor", "100.1.2.3", "2017-07-19", "x86", "w10"] in lines
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("4 packages of 2 drivers\n")


def test_list_as_json(iso: Path) -> None:
    found = document(drivers("list", iso, "--json"))
    assert found["payload"] == str(iso)
    assert found["drivers"][0] == {
        "name": "vioscsi", "windows": "w7", "arch": "amd64", "version": "100.1.2.3",
        "date": "2017-07-19", "path": "vioscsi/w7/amd64/vioscsi.inf", "problem": ""}


def test_check(iso: Path) -> None:
    result = drivers("check", iso)
    assert result.exit_code == 0
    assert "4 usable, 0 refused" in result.stderr
    assert "warning: virtio-win.iso/vioscsi/w7/amd64: it is signed with SHA-2 only" in result.stderr
    assert document(drivers("check", iso, "--arch", "x86", "--json"))["usable"] == [{
        "name": "viostor", "origin": "virtio-win.iso/viostor/w10/x86", "arch": "x86",
        "signer": "Test Corp", "files": ["viostor.cat", "viostor.inf", "viostor.sys"],
        "warnings": []}]


def test_check_for_one_windows(iso: Path) -> None:
    found = document(drivers("check", iso, "--windows", "7", "--json"))
    assert [one["name"] for one in found["usable"]] == ["vioscsi"]
    assert [one["name"] for one in found["unsuited"]] == ["viostor"]
    result = drivers("check", iso, "--windows", "2008", "--arch", "arm64")
    assert result.exit_code == 1
    assert "note: viostor: it is there only for amd64 (w10 2k16), x86 (w10)" in result.stderr


def test_what_is_refused_is_told(tmp_path: Path) -> None:
    bad = made.package()
    bad["viostor.sys"] = made.pe(content=b"\x1b[31mchanged")
    hostile = {"x\x1b[2J.inf": b"[Version]"}
    root = made.write(tmp_path / "p", GOOD | made.tree({"viostor/2k19/amd64": bad, "x": hostile}))
    result = drivers("check", root)
    assert result.exit_code == 1
    assert "refused: viostor from p/viostor/2k19/amd64: viostor.cat does not list" in result.stderr
    assert "\x1b" not in result.stderr
    assert "4 usable, 2 refused" in result.stderr
    assert "\x1b" not in drivers("list", root).stderr
    found = document(drivers("check", root, "--windows", "2019", "--json"))
    assert found["refused"][0]["origin"] == "p/viostor/2k19/amd64"
    assert [one["origin"] for one in found["usable"]] == [
        "p/vioscsi/w7/amd64", "p/viostor/2k16/amd64"]


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["check", "--windows", "98"], 2, "there is no Windows 98"),
    (["check", "--arch", "mips"], 2, "there is no processor mips"),
    (["list", "gone.iso"], 1, "does not exist"),
    (["import", "gone.iso"], 1, "does not exist"),
])
def test_errors(arguments: list[str], status: int, said: str, tmp_path: Path,
                monkeypatch: pytest.MonkeyPatch, iso: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTIO_WIN", str(iso))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = drivers(*arguments)
    assert result.exit_code == status
    assert said in result.stderr
    assert "hint: " in result.stderr


def test_without_any_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgconv.windows.virtio_win.find", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = drivers("list")
    assert result.exit_code == 1
    assert "scripts/fetch-virtio-win" in result.stderr


# --- import ---------------------------------------------------------------------------------------


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, where nothing else is found."""
    monkeypatch.delenv("VIRTIO_WIN", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(payload_find, "__file__", str(tmp_path / "a/b/c"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "data/imgconv/drivers"


def test_import_an_iso(iso: Path, user: Path) -> None:
    found = document(drivers("import", iso, "--json"))
    copy = user / "virtio-win.iso"
    assert found == {"imported": str(copy), "used": str(copy)}
    assert copy.read_bytes() == iso.read_bytes()
    assert list(user.iterdir()) == [copy]
    assert drivers("list").exit_code == 0
    again = drivers("import", iso)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_import_a_folder(user: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.inf"
    outside.write_text("secret")
    root = made.write(tmp_path / "tree", GOOD)
    (root / "link.inf").symlink_to(outside)
    result = drivers("import", root)
    assert (result.exit_code, result.stderr) == (0, f"✔ {user / 'tree'}: imported\n")
    copied = {path.relative_to(user / "tree").as_posix() for path in user.rglob("*")
              if path.is_file()}
    assert copied == set(GOOD)
    assert [path.name for path in user.iterdir()] == ["tree"]


def test_import_to(iso: Path, user: Path, tmp_path: Path) -> None:
    result = drivers("import", iso, "--to", tmp_path / "new/mine.iso")
    assert (tmp_path / "new/mine.iso").is_file()
    assert "it is not found there" in result.stderr
    assert drivers("import", iso, "--to", tmp_path / "new").exit_code == 0
    assert (tmp_path / "new/virtio-win.iso").is_file()
    made.write(user, made.package())
    assert f"{user} is used, which is looked for first" in drivers("import", iso).stderr


def test_only_payloads_are_imported(user: Path, tmp_path: Path) -> None:
    other = made.iso(tmp_path / "debian.iso", {"a/readme.txt": b"hello"})
    result = drivers("import", other)
    assert result.exit_code == 1
    assert "no INF file" in result.stderr
    assert not user.exists()


def test_a_failed_import_leaves_nothing(iso: Path, user: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    result = drivers("import", iso)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert list(user.iterdir()) == []
