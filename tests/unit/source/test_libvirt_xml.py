from __future__ import annotations

import io
import time

import pytest

from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import Firmware, Hardware, Nic, SourceDisk
from imgconv.source import libvirt_xml
from tests.unit.source.samples import LIBVIRT


def parse(text: str | bytes) -> Hardware:
    return libvirt_xml.parse(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


def domain(content: str) -> str:
    return f"<domain type='kvm'><name>x</name>{content}</domain>"


def test_virt_manager() -> None:
    it = parse(LIBVIRT)
    assert (it.name, it.memory, it.cpus) == ("web", 4096, 3)
    assert (it.firmware, it.secure_boot, it.tpm) == (Firmware.UEFI, True, True)
    assert it.os == "http://microsoft.com/win/11"
    assert it.nics == (Nic("e1000e", mac="52:54:00:aa:bb:01"),
                       Nic("virtio-net-pci", mac="52:54:00:aa:bb:02"))
    # The order of booting first, then by the target's name; raw where nothing is said.
    assert it.disks[:3] == (SourceDisk("/dev/vg/web", "raw"), SourceDisk("web.img", "raw"),
                            SourceDisk("web-data.qcow2", "qcow2"))
    assert "type network" in it.disks[3].obstacle


def test_targets_in_the_order_of_linux_names() -> None:
    disks = "".join(f"<disk type='file'><source file='{dev}'/><target dev='{dev}'/></disk>"
                    for dev in ("vdaa", "vdb", "vda", "sda"))
    assert [disk.name for disk in parse(domain(f"<devices>{disks}</devices>")).disks] == [
        "vda", "vdb", "vdaa", "sda"]


@pytest.mark.parametrize(("unit", "amount", "mebibytes"), [
    ("", 1048576, 1024), ("unit='GiB'", 2, 2048), ("unit='bytes'", 1, 1), ("unit='MB'", 1000, 954),
    ("unit='k'", 1025, 2)])
def test_units(unit: str, amount: int, mebibytes: int) -> None:
    assert parse(domain(f"<memory {unit}>{amount}</memory>")).memory == mebibytes


@pytest.mark.parametrize(("system", "firmware", "secure"), [
    ("", Firmware.BIOS, False),
    ("<os><loader type='rom'>/usr/share/seabios/bios.bin</loader></os>", Firmware.BIOS, False),
    ("<os><loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader></os>", Firmware.UEFI, False),
    ("<os><loader secure='yes' type='pflash'>/x</loader></os>", Firmware.UEFI, True),
    ("<os firmware='efi'><firmware><feature enabled='no' name='enrolled-keys'/></firmware>"
     "<loader secure='yes'/></os>", Firmware.UEFI, False),
])
def test_firmware(system: str, firmware: Firmware, secure: bool) -> None:
    it = parse(domain(system))
    assert (it.firmware, it.secure_boot) == (firmware, secure)


def test_a_tpm_of_version_1_2_is_not_carried_over() -> None:
    it = parse(domain("<devices><tpm><backend type='emulator' version='1.2'/></tpm></devices>"))
    assert not it.tpm
    assert "1.2" in it.notes[0]


@pytest.mark.parametrize("address", ["", "52:54:00", "01:00:5e:00:00:01", "00:00:00:00:00:00",
                                     "52:54:00:aa:bb:zz", "52:54:00:aa:bb:01,romfile=/etc/shadow"])
def test_addresses_that_no_card_has(address: str) -> None:
    it = parse(domain(f"<devices><interface><mac address='{address}'/></interface></devices>"))
    assert it.nics == (Nic(""),)


BILLION_LAUGHS = "<!DOCTYPE domain [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9)
) + "]><domain><name>&j;</name></domain>"
EXTERNAL = "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name>" \
           "</domain>"


@pytest.mark.parametrize(("text", "said"), [
    (BILLION_LAUGHS, "DOCTYPE"),
    (EXTERNAL, "DOCTYPE"),
    ("<!DOCTYPE domain SYSTEM 'http://example.com/x.dtd'><domain/>", "DOCTYPE"),
    ("<domain><name>&undefined;</name></domain>", "not well-formed"),
    ("<domain>" + "<a>" * 100_000, "deeper or longer"),
    ("<domain>" + "<a/>" * 100_000 + "</domain>", "deeper or longer"),
    ("<domain><name>x</name>", "not well-formed"),
    ("<?xml version='1.0' encoding='no-such'?><domain/>", "not well-formed"),
    (b"<domain><name>\xff</name></domain>", "not well-formed"),
    ("<network/>", "its root is <network>"),
    (domain("<memory unit='GiB'>1000000000</memory>"), "memory"),
    (domain("<memory>-1</memory>"), "memory"),
    (domain("<memory unit='furlong'>1</memory>"), "furlong"),
    (domain("<vcpu>1000000</vcpu>"), "processors"),
    (domain("<devices>" + "<interface/>" * 65 + "</devices>"), "65 network cards"),
])
def test_refused(text: str | bytes, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(HostileInput) as caught:
        parse(text)
    assert said in caught.value.message
    assert caught.value.hint
    assert time.monotonic() - start < 2


def test_utf_16() -> None:
    text = LIBVIRT.replace("<?xml version='1.0'?>", "<?xml version='1.0' encoding='UTF-16'?>")
    assert parse(text.encode("utf-16")).name == "web"


def test_errors_are_imgconvs_own() -> None:
    with pytest.raises(ImgconvError):
        parse(b"")
