"""Windows guests made of nothing: all that imgconv, libguestfs and virt-v2v look at is there.

    tree = WindowsTree(RELEASES["10"], Firmware.UEFI)
    guest, inspection = tree.build()                        # for planners and checks
    disk = windows_disks.image(tree, tmp_path)              # for everything else

No Windows starts from them: the programs and drivers are valid PE files that do nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from uuid import UUID

from imgconv.model import Filesystem, Firmware, Inspection, Mount, WindowsOs
from imgconv.windows.registry import Hive
from tests import windows_data, windows_hives, windows_pe
from tests.fake_guest import FakeGuest
from tests.hives import make_hive, with_checksum
from tests.windows_hives import Keys, Release

#: By the names that people know them by.
RELEASES: Final = {
    "xp": Release("Microsoft Windows XP", (5, 1, 2600), "x86", service_pack=3, folder="WINDOWS"),
    "7-x86": Release("Windows 7 Professional", (6, 1, 7601), "x86", service_pack=1,
                     real="SYSTEM-win7-x86"),
    "7": Release("Windows 7 Professional", (6, 1, 7601), "amd64", service_pack=1),
    "2008r2": Release("Windows Server 2008 R2 Standard", (6, 1, 7601), "amd64", "ServerStandard",
                      server=True, service_pack=1),
    "8.1": Release("Windows 8.1 Pro", (6, 3, 9600), "amd64", real="SYSTEM-win8.1-x64"),
    "10": Release("Windows 10 Pro", (10, 0, 16299), "amd64", display="1709",
                  real="SYSTEM-win10-1709-x64"),
    # Windows 11 still calls itself Windows 10 here.
    "11": Release("Windows 10 Pro", (10, 0, 22631), "amd64", display="23H2"),
    "2022": Release("Windows Server 2022 Standard", (10, 0, 20348), "amd64", "ServerStandard",
                    server=True, display="21H2"),
}

MIB: Final = 1 << 20

#: What drivers import beside the kernel and the HAL.
_IMPORTS: Final = {
    "disk": ("CLASSPNP.SYS",), "cdrom": ("CLASSPNP.SYS",), "intelide": ("PCIIDEX.SYS",),
    "pciide": ("PCIIDEX.SYS",), "msahci": ("ataport.SYS", "PCIIDEX.SYS"), "atapi": ("ataport.SYS",),
    "storahci": ("storport.sys",), "stornvme": ("storport.sys",), "lsi_sas": ("storport.sys",),
    "e1g60": ("NDIS.SYS",), "tcpip": ("NDIS.SYS",), "ataport": ("WMILIB.SYS",)}
#: Drivers that are no services of their own: the libraries of others.
_LIBRARIES: Final = ("classpnp", "storport", "scsiport", "ataport", "pciidex", "wmilib")
_KERNEL: Final = ("ntoskrnl.exe", "HAL.dll")
#: These need nothing but the kernel.
_KERNEL_ONLY = {"intelide", "pciide", "wmilib", "atapi"}

_SIGNATURE = 0x1A2B3C4D
_DISK = UUID("0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f")
_ROOT = UUID("3c2d1e0f-5a4b-4978-9687-1f2e3d4c5b6a")
ESP_GUID = UUID("e5f60718-293a-4b4c-8d5e-6f708192a3b4")
_SECTOR_63 = 63 * 512
#: Of the real SYSTEM hives, the one whose logs are there as well.
_HAVE_LOGS = {"SYSTEM-win10-1709-x64"}
_INF = b'[Version]\r\nSignature="$WINDOWS NT$"\r\nProvider=Microsoft\r\n'
_CATALOGS = "{F750E6C3-38EE-11D1-85E5-00C04FC295EE}"


@dataclass(frozen=True, slots=True)
class WindowsTree:
    """A Windows guest to make.

    `controller` is the kind its disk hung on so far: ide, sata or sas. `real` takes the SYSTEM hive
    of a real Windows (and BCD where it fits), for releases that have one; it needs the data of
    tests.windows_data. `dirty` leaves hives as if Windows had not been shut down; a real one has
    its logs then. `extra` are more files, `control_set` more keys for each control set, `software`
    for that hive. `size` is C:'s in bytes.
    """

    release: Release
    firmware: Firmware = Firmware.BIOS
    controller: str = "ide"
    real: bool = False
    dirty: bool = False
    hibernated: bool = False
    extra: Mapping[str, bytes] = field(default_factory=dict)
    control_set: Keys = field(default_factory=dict)
    software: Keys = field(default_factory=dict)
    size: int = 192 * MIB

    # --- where things are -------------------------------------------------------------------------

    @property
    def root(self) -> str:
        return f"/{self.release.folder}"

    @property
    def system32(self) -> str:
        return f"{self.root}/{'system32' if self._old else 'System32'}"

    @property
    def drivers(self) -> str:
        return f"{self.system32}/drivers"

    @property
    def config(self) -> str:
        return f"{self.system32}/config"

    def hive(self, name: str) -> str:
        """The path of a hive ("SYSTEM"), in the letter case that this Windows gives it."""
        lower = self._old and name in ("SYSTEM", "SOFTWARE", "DEFAULT")
        return f"{self.config}/{name.lower() if lower else name}"

    @property
    def _old(self) -> bool:
        return self.release.release < (6, 0)

    @property
    def disk_id(self) -> UUID | int:
        """The GPT's GUID or the MBR's signature; a real hive knows the disk by it."""
        if self.firmware is Firmware.UEFI:
            return _DISK
        known = self._letter_c()
        return struct.unpack("<IQ", known)[0] if len(known) == 12 else _SIGNATURE

    @property
    def partition_guid(self) -> UUID:
        """C:'s, on a disk with a GPT."""
        known = self._letter_c()
        return UUID(bytes_le=known[8:]) if known.startswith(b"DMIO:ID:") else _ROOT

    @property
    def offset(self) -> int:
        """Where C: begins on the disk, in bytes."""
        known = self._letter_c()
        if self.firmware is Firmware.BIOS and len(known) == 12:
            return int(struct.unpack("<IQ", known)[1])
        if self.firmware is Firmware.UEFI:
            return 66 * MIB  # behind 49 MiB of ESP and Microsoft's 16 MiB
        return _SECTOR_63 if self._old else 34 * MIB

    @property
    def single(self) -> bool:
        """Whether there is no partition beside C:."""
        return self.offset <= MIB

    def _letter_c(self) -> bytes:
        """What the real hive says that C: is."""
        if not self.real:
            return b""
        mounted = Hive(windows_data.hive(self.release.real)).key("MountedDevices")
        value = mounted.value(r"\DosDevices\C:") if mounted is not None else None
        return value.data if value is not None else b""

    # --- what is there ----------------------------------------------------------------------------

    def files(self) -> dict[str, bytes]:
        """The files of C: by path."""
        files = self._programs() | self._hives() | self._driver_store() | {
            "/pagefile.sys": bytes(4096),
            "/Program Files/Common Files/desktop.ini": b"",
            "/System Volume Information/tracking.log": b"",
            f"{self.root}/Temp/desktop.ini": b"",
            f"{self.root}/win.ini": b"; for 16-bit app support\r\n"}
        files["/Documents and Settings/All Users/desktop.ini" if self._old
              else "/Users/Public/desktop.ini"] = b"[.ShellClassInfo]\r\n"
        if self.release.arch == "amd64":
            files["/Program Files (x86)/Common Files/desktop.ini"] = b""
            files[f"{self.root}/SysWOW64/kernel32.dll"] = windows_pe.library("x86", "ntdll.dll")
        if not self._old:
            files["/ProgramData/Microsoft/desktop.ini"] = b""
        if self.single:
            files |= self.system_partition()
        if self.hibernated:
            files["/hiberfil.sys"] = b"hibr".ljust(4096, b"\0")
        return files | dict(self.extra)

    def system_partition(self) -> dict[str, bytes]:
        """The files of the partition that the firmware starts from: the ESP, or the active one.

        Where `single` is true they are in `files` as well.
        """
        if self._old:
            root = rf"multi(0)disk(0)rdisk(0)partition(1)\{self.release.folder}"
            return {"/boot.ini": f"[boot loader]\r\ntimeout=30\r\ndefault={root}\r\n"
                                 f"[operating systems]\r\n{root}=\"{self.release.product}\" "
                                 "/noexecute=optin /fastdetect\r\n".encode(),
                    "/ntldr": b"\xe9".ljust(512, b"\0"), "/NTDETECT.COM": b"\xc3"}
        if self.firmware is Firmware.UEFI:
            folder = "/EFI/Microsoft/Boot"
            return {f"{folder}/bootmgfw.efi": windows_pe.loader(self.release.arch),
                    f"{folder}/BCD": self.bcd()}
        return {"/bootmgr": b"\xeb".ljust(512, b"\0"), "/Boot/BCD": self.bcd()}

    def bcd(self) -> bytes:
        """The boot configuration; the real one is of a Windows 10 on UEFI."""
        if self.real and self.firmware is Firmware.UEFI and self.release.version >= (10, 0, 0):
            return windows_data.hive("BCD")
        if self.firmware is Firmware.UEFI:
            boot = windows_hives.device(ESP_GUID, self.disk_id)
            root = windows_hives.device(self.partition_guid, self.disk_id)
        else:
            boot = windows_hives.device(self.offset if self.single else MIB, self.disk_id)
            root = windows_hives.device(self.offset, self.disk_id)
        return make_hive(windows_hives.bcd(self.release, efi=self.firmware is Firmware.UEFI,
                                           boot=boot, root=root))

    def _hives(self) -> dict[str, bytes]:
        made = {"SYSTEM": self._system(), "SOFTWARE": self._software(),
                "SAM": _hive("SAM"), "SECURITY": _hive("SECURITY"), "DEFAULT": _hive("DEFAULT")}
        if self.release.driver_database:
            made["DRIVERS"] = _drivers(self.release)
        logs = ("LOG",) if self._old else ("LOG1", "LOG2")
        files = {self.hive(name): content for name, content in made.items()}
        files |= {f"{self.hive(name)}.{log}": b"" for name in made for log in logs}
        if self.dirty and self.real and self.release.real in _HAVE_LOGS:
            files |= {f"{self.hive('SYSTEM')}.{log}":
                      windows_data.hive(f"{self.release.real}.{log}") for log in logs}
        return files

    def _system(self) -> bytes:
        if self.real:
            assert not self.control_set, "a real hive is left as it is"
            content = windows_data.hive(self.release.real)
            return content if self.dirty else settled(content)
        disk = self.disk_id
        where = (struct.pack("<IQ", disk, self.offset) if isinstance(disk, int)
                 else b"DMIO:ID:" + self.partition_guid.bytes_le)
        if self.control_set:
            content = make_hive(_merged(_system_keys(self.release, self.controller, where), {
                rf"{name}\{path}": values for name in windows_hives.control_sets(self.release)
                for path, values in self.control_set.items()}))
        else:
            content = _made_system(self.release, self.controller, where)
        return unsettled(content) if self.dirty else content

    def _software(self) -> bytes:
        if not self.software:
            return _made_software(self.release)
        return make_hive(_merged(windows_hives.software(self.release), self.software))

    def _programs(self) -> dict[str, bytes]:
        arch = self.release.arch
        files = {f"{self.system32}/ntoskrnl.exe": windows_pe.driver(arch, "HAL.dll"),
                 f"{self.system32}/hal.dll": windows_pe.driver(arch, "ntoskrnl.exe"),
                 f"{self.system32}/ntdll.dll": windows_pe.library(arch),
                 f"{self.system32}/kernel32.dll": windows_pe.library(arch, "ntdll.dll"),
                 f"{self.system32}/smss.exe": windows_pe.program(arch, "ntdll.dll")}
        for name in ("cmd", "svchost", "services", "lsass", "reg"):
            files[f"{self.system32}/{name}.exe"] = windows_pe.program(arch, "KERNEL32.dll")
        if not self._old:
            for name in ("winload", "winresume"):
                files[f"{self.system32}/{name}.efi"] = windows_pe.loader(arch)
                files[f"{self.system32}/{name}.exe"] = windows_pe.driver(arch)
            files[f"{self.root}/Boot/EFI/bootmgfw.efi"] = windows_pe.loader(arch)
            files[f"{self.system32}/pnputil.exe"] = windows_pe.program(arch, "KERNEL32.dll")
        images = [service.path.replace("\\", "/").rpartition("/")[2]
                  for service in windows_hives.services(self.release) if service.name != "Fs_Rec"]
        images += [f"{name}.sys" for name in _LIBRARIES]
        for image in images:
            files[f"{self.drivers}/{image}"] = driver(arch, image.removesuffix(".sys"))
        if self.real:
            files |= self._services_of_the_real()
        return files

    def _services_of_the_real(self) -> dict[str, bytes]:
        """Stand-ins for the drivers that a real hive names: filters, antivirus and such."""
        files = {}
        top = Hive(windows_data.hive(self.release.real)).key(r"ControlSet001\Services")
        for service in top.subkeys() if top is not None else ():
            image = (service.text("ImagePath") or "").replace("\\", "/").lower()
            name = image.rpartition("/")[2] or f"{service.name}.sys"
            if service.number("Type") in (1, 2) and ("system32/drivers/" in image or not image):
                files[f"{self.drivers}/{name}"] = driver(self.release.arch,
                                                         name.removesuffix(".sys"))
        return files

    def _driver_store(self) -> dict[str, bytes]:
        """The INF files of what is in the box, the driver store and the folder of catalogs."""
        files = {f"{self.root}/inf/{name}": _INF + f"; {name}\r\n".encode()
                 for name in ("mshdc.inf", "disk.inf", "machine.inf", "nete1g3e.inf")}
        files[f"{self.system32}/CatRoot/{_CATALOGS}/{'nt5' if self._old else 'ntpe'}.cat"] = b"0"
        if self.release.release >= (6, 0):
            store = f"{self.system32}/DriverStore/FileRepository"
            files |= {f"{store}/{windows_hives.package(self.release, name)}/{name}":
                      files[f"{self.root}/inf/{name}"] for name in ("mshdc.inf", "disk.inf")}
        return files

    # --- as a guest -------------------------------------------------------------------------------

    def inspection(self) -> Inspection:
        """What `imgconv.guest.inspection` finds on the disk that is made of this."""
        uefi = self.firmware is Firmware.UEFI
        number = 3 if uefi else 1 if self.single else 2
        device = f"/dev/sda{number}"
        filesystems: Sequence[Filesystem] = ()
        if uefi:
            filesystems = (Filesystem("/dev/sda1", "vfat", partuuid=str(ESP_GUID)),
                           Filesystem("/dev/sda2", ""))
        elif not self.single:
            filesystems = (Filesystem("/dev/sda1", "ntfs", label="System Reserved"),)
        release = self.release
        return Inspection(
            device, {"x86": "i386", "amd64": "x86_64"}[release.arch], self.firmware,
            (*filesystems, Filesystem(device, "ntfs")), (Mount(device, "/"),),
            WindowsOs(_known_as(release), ".".join(map(str, release.version)), self.root,
                      release.server, release.service_pack))

    def build(self) -> tuple[FakeGuest, Inspection]:
        return FakeGuest(self.files()), self.inspection()


def driver(arch: str, name: str) -> bytes:
    """A driver that comes with Windows, with the imports that it has."""
    lower = name.lower()
    kernel = _KERNEL[:1] if lower in _KERNEL_ONLY else _KERNEL
    return windows_pe.driver(arch, *kernel, *_IMPORTS.get(lower, ()))


def _known_as(release: Release) -> str:
    """The name that people know, not the one of the registry."""
    if release.version >= (10, 0, 22000) and not release.server:
        return release.product.replace("Windows 10", "Windows 11")
    return release.product


def settled(hive: bytes) -> bytes:
    """`hive` as if its last write had been finished: what its logs would add is lost."""
    return with_checksum(hive[:8] + hive[4:8] + hive[12:])


def unsettled(hive: bytes) -> bytes:
    """`hive` as if its last write had not been finished."""
    first, second = struct.unpack_from("<II", hive, 4)
    return with_checksum(hive[:4] + struct.pack("<II", first + 1, second) + hive[12:])


def _system_keys(release: Release, controller: str, where: bytes) -> Keys:
    return windows_hives.system(release, controller, {
        r"\DosDevices\C:": where, r"\??\Volume{656b1715-ecf6-11df-92e6-806e6f6e6963}": where})


def _merged(keys: Keys, more: Keys) -> Keys:
    return keys | {path: keys.get(path, {}) | values for path, values in more.items()}


@cache
def _made_system(release: Release, controller: str, where: bytes) -> bytes:
    return make_hive(_system_keys(release, controller, where))


@cache
def _made_software(release: Release) -> bytes:
    return make_hive(windows_hives.software(release))


@cache
def _drivers(release: Release) -> bytes:
    return make_hive(windows_hives.drivers(release))


@cache
def _hive(name: str) -> bytes:
    return make_hive(windows_hives.OTHERS[name])
