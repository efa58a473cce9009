from __future__ import annotations

import pytest

from imgconv.errors import HostileInput
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import booster, cpio
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest
from tests.guests import cpio as archive
from tests.guests import tree

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((Filesystem("/dev/sda1", "ext4", "11-11"),), Names.UUID, Bus.VIRTIO_BLK)
CONF = "/etc/booster.yaml"


@pytest.mark.parametrize(("text", "after"), [
    (None, "modules_force_load: virtio_pci,virtio_blk\n"),
    ("universal: true\nmodules_force_load: 'nvme, virtio-pci'\n",
     "universal: true\nmodules_force_load: 'nvme,virtio-pci,virtio_blk'\n"),
    ("modules_force_load: virtio_blk, virtio_pci\n", None),
    ("network:\n  dhcp: on",
     "network:\n  dhcp: on\nmodules_force_load: virtio_pci,virtio_blk\n")])
def test_persist(text: str | None, after: str | None) -> None:
    guest = FakeGuest({} if text is None else {CONF: text})
    changes = booster.persist(guest, RENAMER, DRIVERS)
    assert [change.content.decode() for change in changes] == ([] if after is None else [after])
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert booster.persist(guest, RENAMER, DRIVERS) == ()


def booster_init(text: str) -> str:
    image = cpio.read(archive(tree({"init": b"\x7fELF", "etc/booster.init.yaml": text.encode()})))
    files = booster.additions(image, RENAMER, ("virtio", "virtio_blk"))
    return files["etc/booster.init.yaml"].decode()


@pytest.mark.parametrize(("before", "after"), [
    ("kernel: 6.1\n", "kernel: 6.1\nmoduledependencies:\n    virtio_blk:\n        - virtio\n"
                      "modulesforceload:\n    - virtio\n    - virtio_blk\n"),
    ("moduledependencies:\n  a:\n  - b\nmodulesforceload:\n- a\nkernel: 1\n",
     "moduledependencies:\n  virtio_blk:\n      - virtio\n  a:\n  - b\n"
     "modulesforceload:\n- virtio\n- virtio_blk\n- a\nkernel: 1\n"),
    ("moduledependencies: {}\nmodulesforceload: []\n",
     "moduledependencies:\n    virtio_blk:\n        - virtio\n"
     "modulesforceload:\n    - virtio\n    - virtio_blk\n")])
def test_booster_init_yaml(before: str, after: str) -> None:
    assert booster_init(before) == after


def test_yaml_of_another_form() -> None:
    with pytest.raises(HostileInput, match="not in booster's form"):
        booster_init("moduledependencies: {a: [b]}\n")


def test_a_module_that_needs_too_many() -> None:
    rows = "".join(f"    m{n}:\n        - m{n + 1}\n" for n in range(500))
    image = cpio.read(archive(tree({"etc/booster.init.yaml": b"moduledependencies:\n"
                                    + rows.encode(), "usr/lib/modules/m0.ko": b""})))
    with pytest.raises(HostileInput, match="more than 200 modules"):
        booster.LAYOUT.index(image, "usr/lib/modules")
