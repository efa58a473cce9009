from __future__ import annotations

import io

import pytest

from imgconv.errors import ImgconvError
from imgconv.model import Firmware, Hardware, Nic, SourceDisk
from imgconv.source import ovf
from tests.unit.source.samples import (
    PLAIN,
    VIRTUALBOX,
    VSPHERE,
    disk,
    envelope,
    file_entry,
    item,
    rasd,
)


def parse(text: str) -> Hardware:
    return ovf.parse(io.BytesIO(text.encode()))


def test_vsphere() -> None:
    it = parse(VSPHERE)
    assert (it.name, it.memory, it.cpus, it.os) == ("mail", 8192, 4, "Debian_64")
    assert (it.firmware, it.secure_boot, it.tpm) == (Firmware.UEFI, True, True)
    assert it.disks == (SourceDisk("mail-1.vmdk", "vmdk"), SourceDisk("mail%202.vmdk", "vmdk"))
    assert it.nics == (Nic("vmxnet3", mac="00:50:56:ab:cd:01"),)
    assert "vmdisk3" in it.notes[0]


def test_virtualbox() -> None:
    it = parse(VIRTUALBOX)
    assert (it.memory, it.cpus, it.firmware, it.tpm) == (1024, 2, Firmware.UEFI, True)
    assert it.disks == (SourceDisk("box.vmdk", "vmdk"),)
    assert it.nics == (Nic("e1000", mac="08:00:27:c0:ff:ee"),)


def test_unsaid_firmware_is_unknown() -> None:
    assert parse(PLAIN).firmware is None


@pytest.mark.parametrize(("unit", "amount", "mebibytes"), [
    ("byte * 2^30", 2, 2048), ("byte*2^20", 5, 5), ("byte", 1 << 21, 2), ("GigaBytes", 1, 1024),
    ("byte * 10^9", 1, 954)])
def test_units(unit: str, amount: int, mebibytes: int) -> None:
    memory = item(4, "2", rasd(AllocationUnits=unit, VirtualQuantity=amount))
    assert parse(envelope(memory, "", "")).memory == mebibytes


@pytest.mark.parametrize(("default", "memory"), [("small", 1024), ("large", 8192)])
def test_the_default_configuration(default: str, memory: int) -> None:
    options = "".join(f'<Configuration ovf:id="{name}"'
                      f' {"ovf:default=&quot;true&quot;".replace("&quot;", chr(34))}/>'
                      if name == default else f'<Configuration ovf:id="{name}"/>'
                      for name in ("small", "large"))
    items = (item(4, "2", rasd(VirtualQuantity=1024))
             + item(4, "2", rasd(VirtualQuantity=8192), 'ovf:configuration="large huge"'))
    it = parse(envelope(items, "", "",
                        before=f"<DeploymentOptionSection>{options}</DeploymentOptionSection>"))
    assert it.memory == memory


def test_compressed_and_chunked_disks_say_so() -> None:
    for attribute, said in (('ovf:compression="gzip"', "gunzip"), ('ovf:chunkSize="9"', "cat")):
        it = parse(PLAIN.replace(file_entry(1, "disk.vmdk"), file_entry(1, "d.vmdk", attribute)))
        assert said in it.disks[0].obstacle
    it = parse(PLAIN.replace(file_entry(1, "disk.vmdk"),
                             file_entry(1, "d.vmdk", 'ovf:compression="identity"')))
    assert it.disks[0].obstacle == ""


def test_the_last_configuration_word_is_not_the_disk_format() -> None:
    text = PLAIN.replace(disk(1), disk(1, fmt="http://example.com/raw"))
    assert parse(text).disks == (SourceDisk("disk.vmdk", ""),)


@pytest.mark.parametrize(("text", "said"), [
    (PLAIN.replace("VirtualSystem ", "VirtualSystemCollection ").replace(
        "</VirtualSystem>", "</VirtualSystemCollection>"), "several machines"),
    (PLAIN.replace("VirtualHardwareSection", "Other"), "no VirtualHardwareSection"),
    ("<Envelope/>", "no VirtualSystem"),
    ("<a/>", "its root is <a>"),
    ('<!DOCTYPE a [<!ENTITY x "y">]>' + PLAIN.partition("?>")[2], "DOCTYPE"),
    (envelope(item(4, "2", rasd(VirtualQuantity=10**9)), "", ""), "memory"),
    (envelope(item(4, "2", rasd(VirtualQuantity=-512)), "", ""), "memory"),
    (envelope(item(4, "2", rasd(AllocationUnits="byte * 10^99", VirtualQuantity=1)), "", ""),
     "memory"),
    (envelope(item(4, "2", rasd(AllocationUnits="word", VirtualQuantity=1)), "", ""), "word"),
    (envelope("".join(item(3, str(n), rasd(VirtualQuantity=4000)) for n in range(9)), "", ""),
     "processors"),
    (envelope("".join(item(10, str(n)) for n in range(100)), "", ""), "100 network cards"),
    (PLAIN.replace("ovf:/disk/vmdisk1", "ovf:/disk/none"), "not in the descriptor"),
    (PLAIN.replace("ovf:/disk/vmdisk1", "http://example.com/x"), "not in the descriptor"),
])
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ImgconvError) as caught:
        parse(text)
    assert said in caught.value.message
    assert caught.value.hint
