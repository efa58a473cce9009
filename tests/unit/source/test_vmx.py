from __future__ import annotations

import io

import pytest

from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import Firmware, Hardware, Nic
from imgconv.source import vmx
from tests.unit.source.samples import ESXI, WORKSTATION


def parse(text: str | bytes) -> Hardware:
    return vmx.parse(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


def names(hardware: Hardware) -> list[str]:
    return [disk.name for disk in hardware.disks]


def test_workstation() -> None:
    it = parse(WORKSTATION)
    assert (it.name, it.memory, it.cpus, it.os) == ('Büro "alt"', 4096, 4, "debian11-64")
    assert (it.firmware, it.secure_boot, it.tpm) == (Firmware.UEFI, True, True)
    assert names(it) == ["büro.vmdk", "büro-1.vmdk", "fast.vmdk"]
    assert {disk.format for disk in it.disks} == {"vmdk"}
    assert it.nics == (Nic("e1000e", mac="00:0c:29:1a:2b:3c"),)


def test_esxi() -> None:
    it = parse(ESXI)
    assert (it.memory, it.cpus, it.firmware) == (16384, 2, Firmware.BIOS)
    assert (it.secure_boot, it.tpm) == (False, False)
    assert names(it) == ["db01_1.vmdk", "db01.vmdk"]
    assert it.nics == (Nic("vmxnet3", mac="00:50:56:b0:12:34"), Nic(""),
                       Nic("vmxnet3", mac="00:50:56:00:00:10"))


@pytest.mark.parametrize(("name", "codec"), [
    ("windows-1252", "cp1252"), ("UTF-8", "utf-8"), ("Shift_JIS", "shift_jis"), ("GBK", "gbk")])
def test_encodings(name: str, codec: str) -> None:
    disk = "機械.vmdk" if codec in ("shift_jis", "gbk") else "Büro.vmdk"
    text = (f'.encoding = "{name}"\nmemsize = "64"\nide0:0.present = "TRUE"\n'
            f'ide0:0.fileName = "{disk}"\n')
    assert names(parse(text.encode(codec))) == [disk]


def test_undecodable_names_are_kept_as_bytes() -> None:
    it = parse(b'memsize = "64"\nide0:0.present = "TRUE"\nide0:0.fileName = "\xff.vmdk"\n')
    assert names(it) == ["\udcff.vmdk"]


@pytest.mark.parametrize("codec", ["punycode", "unicode_escape", "undefined", "rot13", "zip"])
def test_no_other_codec_is_run(codec: str) -> None:
    text = f'.encoding = "{codec}"\nmemsize = "64"\ndisplayName = "\\u0041"\n'
    assert parse(text).name == "\\u0041"


def test_a_disk_needs_a_drive_that_is_there() -> None:
    it = parse('memsize = "64"\nscsi0:0.fileName = "a.vmdk"\nscsi0:1.fileName = "b.vmdk"\n'
               'scsi0:1.present = "FALSE"\nSCSI0:2.FILENAME = "c.vmdk"\nscsi0:2.present = "true"\n')
    assert names(it) == ["c.vmdk"]


@pytest.mark.parametrize(("line", "said"), [
    ('memsize = "1000000000"', "memory (memsize) is '1000000000'"),
    ('memsize = "-512"', "'-512', and not a number"),
    ('memsize = "٣"', "not a number"),
    ('memsize = "' + "9" * 5000 + '"', "not a number"),
    ('numvcpus = "0x10"', "numvcpus"),
    ('numvcpus = "100000"', "numvcpus"),
])
def test_numbers_that_no_machine_has(line: str, said: str) -> None:
    with pytest.raises(HostileInput) as caught:
        parse('displayName = "x"\n' + line)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("text", "said"), [
    ("", "no VMX file"),
    ("just = text\n", "no VMX file"),
    ('encryption.keySafe = "vmware:key/list"\nencryption.data = "x"\nconfig.version = "8"\n',
     "encrypted"),
    ('memsize = "64"\nmemsize = "128"\n', "memsize is defined twice"),
    ("a = b\n" * 30_000, "more than 20,000 lines"),
    (b"#" * (5 << 20), "more than 4 MiB"),
])
def test_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(ImgconvError) as caught:
        parse(text)
    assert said in caught.value.message
    assert caught.value.hint


def test_too_many_disks() -> None:
    lines = "".join(f'scsi{c}:{n}.present = "TRUE"\nscsi{c}:{n}.fileName = "{c}-{n}.vmdk"\n'
                    for c in range(3) for n in range(100))
    with pytest.raises(HostileInput, match="300 disks"):
        parse('memsize = "64"\n' + lines)


def test_names_are_shown_without_control_characters() -> None:
    it = parse('memsize = "64"\ndisplayName = "a/b|1B[31m|0Ared"\n')
    assert it.name == "a-b?[31m?red"
