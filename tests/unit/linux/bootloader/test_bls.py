"""Boot entries in files, and GRUB's environment block."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv.errors import CannotConvert, HostileInput
from imgconv.linux.bootloader import bls, grub2, grubenv
from imgconv.linux.bootloader.entry import Places
from imgconv.linux.device_names import Renamer
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest
from tests.guests import BLS_CONFIG, ROOT_UUID, SWAP_UUID, environment

FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", ROOT_UUID),
               Filesystem("/dev/sda2", "swap", SWAP_UUID))
BY_UUID = Renamer(FILESYSTEMS, Names.UUID, Bus.VIRTIO_BLK)
ID = "ffbd3b9a1f0e4a7b8c2d000000000001"
FOLDER = "/boot/loader/entries"


def guest(*names: str, text: str = "linux /vmlinuz\noptions $kernelopts\n") -> FakeGuest:
    return FakeGuest({f"{FOLDER}/{name}.conf": f"title {name}\n{text}" for name in names})


def test_the_newest_first_and_the_rescue_entry_last() -> None:
    names = [f"{ID}-0-rescue", f"{ID}-5.9.0", f"{ID}-5.10.0", f"{ID}-4.18.0-80.el8.x86_64",
             f"{ID}-4.18.0-147.3.1.el8_1.x86_64"]
    assert [entry.name for entry in bls.read(guest(*names), FOLDER)] == [
        names[2], names[1], names[4], names[3], names[0]]


@pytest.mark.parametrize(("saved", "first"), [
    (f"{ID}-5.9.0", "5.9.0"), (f"{ID}-5.10.0", "5.10.0"), ("0", "5.10.0"), ("1", "5.9.0"),
    ("gone", "5.10.0"), ("", "5.10.0")])
def test_default_of_blscfg(saved: str, first: str) -> None:
    both = guest(f"{ID}-5.9.0", f"{ID}-5.10.0")
    both.files |= {"/boot/grub2/grub.cfg": BLS_CONFIG.encode(), "/boot/grub2/grubenv": environment(
        saved_entry=saved, kernelopts="root=/dev/sda1 ro").encode()}
    found = grub2.entries(both)
    assert len(found) == 2
    assert found[0].title == f"{ID}-{first}"
    assert found[0].cmdline == "root=/dev/sda1 ro"


def test_without_the_command_entries_in_files_mean_nothing() -> None:
    both = guest(f"{ID}-5.9.0")
    both.files["/boot/grub2/grub.cfg"] = b"insmod blscfg\n# blscfg\n"
    assert not grub2.entries(both)
    assert not grub2.plan(both, BY_UUID)


def test_an_entry() -> None:
    text = ("title\tA  B\nversion 5.9\n# options root=/dev/sda9\nLINUX /v\ninitrd /u /i\n"
            "initrd /j $more\noptions root=$r ${x}\noptions quiet\ngrub_arg root=/dev/sda1\n")
    entry = bls.parse("/e/x+3-1.conf", text)
    assert entry.ident == "x"
    made = bls.boot_entry(entry, Places(FakeGuest({"/boot/v": b"", "/boot/i": b""}), "/e"),
                          {"r": "/dev/sda1"})
    assert (made.title, made.kernel, made.initrds, made.cmdline, made.release) == (
        "A  B", "/boot/v", ("/u", "/boot/i", "/j"), "root=/dev/sda1 quiet", "5.9")
    assert bls.rewrite(text.replace("$r", "/dev/sda1"), BY_UUID) == text.replace(
        "$r", f"UUID={ROOT_UUID}")
    assert bls.rewrite("linux /v\noptions root=/dev/sda1", BY_UUID) == (
        "linux /v\noptions root=/dev/vda1")


def test_too_many() -> None:
    with pytest.raises(HostileInput, match="boot entries"):
        bls.paths(guest(*map(str, range(1001))), FOLDER)


def test_variables_do_not_multiply() -> None:
    entry = bls.parse("/x.conf", "linux /v\noptions " + "$a" * 10_000)
    made = bls.boot_entry(entry, Places(FakeGuest({}), ""), {"a": "x" * 100_000})
    assert len(made.cmdline) <= 8192


# --- the environment block ------------------------------------------------------------------------


def test_environment_keeps_its_size() -> None:
    before = environment(saved_entry="x", kernelopts="root=/dev/sda1 ro resume=/dev/sda2 ")
    after = grubenv.rewrite(before, BY_UUID)
    assert len(after) == len(before) == 1024
    assert grubenv.parse(after) == {
        "saved_entry": "x", "kernelopts": f"root=UUID={ROOT_UUID} ro resume=UUID={SWAP_UUID} "}
    assert grubenv.rewrite(after, BY_UUID) == after


def test_environment_without_room() -> None:
    before = environment(kernelopts="root=/dev/sda1", x="y" * 970)
    with pytest.raises(CannotConvert, match="no room") as error:
        grubenv.rewrite(before, BY_UUID)
    assert "--names device" in error.value.hint
    by_device = Renamer(FILESYSTEMS, Names.DEVICE, Bus.VIRTIO_BLK)
    assert "root=/dev/vda1\n" in grubenv.rewrite(before, by_device)


@pytest.mark.parametrize("text", ["", "kernelopts=root=/dev/sda1\n", "# GRUB Env", "#" * 1024])
def test_what_is_no_environment_stays(text: str) -> None:
    assert grubenv.rewrite(text, BY_UUID) == text


@given(st.text(st.sampled_from("a=\n#\\é\udcff /"), max_size=60))
def test_any_environment_keeps_its_size(more: str) -> None:
    before = "# GRUB Environment Block\nkernelopts=root=/dev/sda1\n" + more + "#" * 500
    after = grubenv.rewrite(before, BY_UUID)
    assert len(after.encode("utf-8", "surrogateescape")) == len(
        before.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("line", ["options " + "root=" * (1 << 17), " " * (1 << 20),
                                  "initrd" + " " * (1 << 20), "a" * (1 << 20),
                                  "options " + "$" * (1 << 20), "options " + "${a" * (1 << 18)],
                         ids=lambda line: ascii(line[:12]))
def test_long_lines_take_linear_time(line: str) -> None:
    begin = time.process_time()
    bls.boot_entry(bls.parse("/x.conf", line), Places(FakeGuest({}), ""), {})
    bls.rewrite(line, BY_UUID)
    assert time.process_time() - begin < 2
