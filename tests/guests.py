"""A small complete legacy Debian guest, made of nothing but this file: real ELF modules, a kernel
with a real header, a real initramfs, a grub.cfg as update-grub writes it.

    guest, inspection = Legacy(disk="hda", compression="xz").build()
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import lz4.block
import zstandard

from imgconv.linux import modindex
from imgconv.linux.modindex import Item
from imgconv.model import Filesystem, Firmware, Inspection, LinuxOs, Mount
from tests.fake_guest import FakeGuest
from tests.initramfs_guests import FIXTURES, Inside

RELEASE = "6.1.0-13-amd64"

ROOT_UUID = "11111111-1111-4111-8111-111111111111"
SWAP_UUID = "22222222-2222-4222-8222-222222222222"
BOOT_UUID = "33333333-3333-4333-8333-333333333333"
ESP_UUID = "AB12-CD34"


# --- kernel modules -------------------------------------------------------------------------------


def elf(sections: Mapping[bytes, bytes], *, machine: int = 62, wide: bool = True,
        order: str = "<") -> bytes:
    """A relocatable ELF file with these sections and its table of sections at the end."""
    names, body = b"\0", bytearray()
    header_size = 64 if wide else 52
    rows = [(0, 0, 0)]
    for name, content in {**sections, b".shstrtab": b""}.items():
        names += name + b"\0"
        content = names if name == b".shstrtab" else content
        rows.append((len(names) - len(name) - 1, header_size + len(body), len(content)))
        body += content
    body += b"\0" * (-len(body) % 8)
    table = header_size + len(body)
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    word = "Q" if wide else "I"
    head = struct.pack(f"{order}HHI3{word}I6H", 1, machine, 1, 0, 0, table, 0, header_size, 0, 0,
                       64 if wide else 40, len(rows), len(rows) - 1)
    return ident + head + bytes(body) + b"".join(
        struct.pack(f"{order}II4{word}II2{word}", name, 1, 0, 0, at, size, 0, 0, 1, 0)
        for name, at, size in rows)


def module(name: str, depends: Iterable[str] = (), aliases: Iterable[str] = (), *,
           release: str = RELEASE, machine: int = 62, wide: bool = True,
           order: str = "<") -> bytes:
    """A kernel module that says of itself what real ones do."""
    info = [f"alias={alias}" for alias in aliases]
    info += ["license=GPL", f"depends={','.join(depends)}", "retpoline=Y", f"name={name}",
             f"vermagic={release} SMP preempt mod_unload modversions "]
    return elf({b".text": b"\xc3" * 16,
                b".modinfo": b"".join(item.encode() + b"\0" for item in info)},
               machine=machine, wide=wide, order=order)


@dataclass(frozen=True, slots=True)
class Mod:
    """A module to make: its folder below kernel/, what it depends on, and its aliases."""

    folder: str
    depends: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


VIRTIO = {
    "virtio": Mod("drivers/virtio"),
    "virtio_ring": Mod("drivers/virtio"),
    "virtio_pci_modern_dev": Mod("drivers/virtio"),
    "virtio_pci": Mod("drivers/virtio", ("virtio_ring", "virtio", "virtio_pci_modern_dev"),
                      ("pci:v00001AF4d*sv*sd*bc*sc*i*",)),
    "virtio_blk": Mod("drivers/block", ("virtio", "virtio_ring"), ("virtio:d00000002v*",)),
    "virtio_scsi": Mod("drivers/scsi", ("scsi_mod", "virtio", "virtio_ring"),
                       ("virtio:d00000008v*",)),
    "virtio_net": Mod("drivers/net", ("virtio", "virtio_ring"), ("virtio:d00000001v*",)),
}
OTHERS = {
    "scsi_common": Mod("drivers/scsi"),
    "scsi_mod": Mod("drivers/scsi", ("scsi_common",)),
    "sd_mod": Mod("drivers/scsi", ("scsi_mod",), ("scsi:t-0x00*", "block-major-8-*")),
    "libata": Mod("drivers/ata", ("scsi_mod",)),
    "ata_piix": Mod("drivers/ata", ("libata", "scsi_mod"), ("pci:v00008086d00007010sv*",)),
    "ext4": Mod("fs/ext4", (), ("fs-ext4",)),
}
IN_INITRAMFS = ("scsi_common", "scsi_mod", "sd_mod", "libata", "ata_piix", "ext4")


def closure(modules: Mapping[str, Mod], name: str) -> list[str]:
    """What `name` needs, directly and not, as depmod lists it."""
    found: list[str] = []
    todo = list(modules[name].depends)
    while todo:
        need = todo.pop(0)
        if need in modules and need not in found:
            found.append(need)
            todo += modules[need].depends
    return found


def indexes(modules: Mapping[str, Mod], suffix: str, names: Iterable[str]) -> dict[str, bytes]:
    """What depmod makes for these modules: {"modules.dep": ..., "modules.dep.bin": ...}"""
    names = list(names)

    def path(name: str) -> str:
        return f"kernel/{modules[name].folder}/{name}{suffix}"
    dep = {name: " ".join([f"{path(name)}:", *map(path, closure(modules, name))]) for name in names}
    alias = [(pattern, name) for name in names for pattern in modules[name].aliases]
    symbols = [(f"symbol:{name}_register", name) for name in names]
    texts = {"dep": "".join(f"{line}\n" for line in dep.values()),
             "alias": "# Aliases extracted from modules themselves.\n"
                      + "".join(f"alias {a} {name}\n" for a, name in alias),
             "symbols": "# Aliases for symbols, used by symbol_request().\n"
                        + "".join(f"alias {a} {name}\n" for a, name in symbols),
             "softdep": "# Soft dependencies extracted from modules themselves.\n"}
    items = {"dep": [Item(name, at, line) for at, (name, line) in enumerate(dep.items())],
             "alias": [Item(modindex.normalise_alias(a), at, name)
                       for at, (a, name) in enumerate(alias)],
             "symbols": [Item(a, at, name) for at, (a, name) in enumerate(symbols)]}
    return ({f"modules.{name}": text.encode() for name, text in texts.items()}
            | {f"modules.{name}.bin": modindex.write(rows) for name, rows in items.items()})


# --- compression and cpio -------------------------------------------------------------------------


def lz4_legacy(data: bytes) -> bytes:
    out = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start:start + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "cpio": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "zstd": lambda data: zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data),
    "lz4": lz4_legacy,
}

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
PROGRAM = stat.S_IFREG | 0o755


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a cpio archive; `inode` 0 takes the next free one."""

    name: str
    data: bytes = b""
    mode: int = FILE
    links: int = 1
    inode: int = 0


def cpio(records: Iterable[Record], *, trailer: bool = True) -> bytes:
    """A newc archive, as GNU cpio writes it but for the padding to 512 bytes."""
    out = bytearray()
    rows = [*records, *([Record("TRAILER!!!", mode=0)] if trailer else [])]
    for number, row in enumerate(rows, 1):
        name = row.name.encode("utf-8", "surrogateescape") + b"\0"
        fields = (row.inode or number, row.mode, 0, 0, row.links, 0, len(row.data), 8, 1, 0, 0,
                  len(name), 0)
        out += b"070701" + b"".join(b"%08X" % value for value in fields) + name
        out += b"\0" * (-len(out) % 4) + row.data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def tree(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> list[Record]:
    """Records of `files`, each folder before what is in it; `links` are symbolic ones."""
    links = links or {}
    folders = {name.rsplit("/", depth)[0] for name in [*files, *links]
               for depth in range(1, name.count("/") + 1)} - set(links)
    return [*(Record(name, b"", FOLDER) for name in sorted(folders)),
            *(Record(name, target.encode(), LINK) for name, target in links.items()),
            *(Record(name, content, PROGRAM if name == "init" else FILE)
              for name, content in files.items())]


MICROCODE = cpio(tree({"kernel/x86/microcode/GenuineIntel.bin": b"\x01" * 1000}))


# --- the guest ------------------------------------------------------------------------------------


def vmlinuz(release: str, *, bits: int = 64) -> bytes:
    """The first KiB of a bzImage: "HdrS", boot protocol 2.15, the version string."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, 0x100)
    struct.pack_into("<H", head, 0x236, 1 if bits == 64 else 0)
    text = f"{release} (debian-kernel@lists.debian.org) #1 SMP".encode()
    head[0x300:0x300 + len(text)] = text
    return bytes(head)


def entry(title: str, boot: str, release: str, root: str, extra: str = "", *,
          indent: str = "", initrd: bool = True) -> str:
    """A menu entry as 10_linux of Debian's grub writes it."""
    lines = [
        f"menuentry '{title}' --class debian --class gnu-linux --class gnu --class os "
        f"$menuentry_id_option 'gnulinux-{release}-{title}' {{",
        "\tload_video", "\tinsmod gzio",
        "\tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi",
        "\tinsmod part_msdos", "\tinsmod ext2",
        f"\tsearch --no-floppy --fs-uuid --set=root {ROOT_UUID}",
        f"\techo\t'Loading Linux {release} ...'",
        f"\tlinux\t{boot}/vmlinuz-{release} root={root} ro {extra}".rstrip(" "),
        *(["\techo\t'Loading initial ramdisk ...'", f"\tinitrd\t{boot}/initrd.img-{release}"]
          if initrd else []),
        "}"]
    return "".join(f"{indent}{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Legacy:
    """What kind of legacy guest to build. `virtio` is where the drivers are: module, builtin or
    absent; `second_disk` adds /data on a further disk; `tool` is initramfs-tools or one of
    `initramfs_guests.FIXTURES`; `loader` is one of LOADERS; `extra` are more files."""

    releases: tuple[str, ...] = (RELEASE,)
    disk: str = "sda"
    names: str = "device"
    compression: str = "gzip"
    suffix: str = ".ko"
    virtio: str = "module"
    microcode: bool = False
    separate_boot: bool = False
    usrmerge: bool = True
    initrd: bool = True
    udev: bool = True
    in_initramfs: tuple[str, ...] = IN_INITRAMFS
    second_disk: bool = False
    uuids: bool = True
    arch: str = "x86_64"
    machine: int = 62
    tool: str = "initramfs-tools"
    loader: str = "grub2"
    extra: Mapping[str, bytes | str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What is unusual about it."""
        usual = Legacy()
        return ",".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self)
                        if getattr(self, f.name) != getattr(usual, f.name)) or "usual"

    @property
    def modules(self) -> dict[str, Mod]:
        return OTHERS | (VIRTIO if self.virtio == "module" else {})

    @property
    def root(self) -> str:
        return self._spec(3 if self.separate_boot else 1, ROOT_UUID)

    @property
    def swap(self) -> str:
        return self._spec(2, SWAP_UUID)

    def _spec(self, partition: int, uuid: str) -> str:
        return f"UUID={uuid}" if self.names == "uuid" else f"/dev/{self.disk}{partition}"

    def path(self, name: str) -> str:
        return f"kernel/{self.modules[name].folder}/{name}{self.suffix}"

    def content(self, name: str, release: str) -> bytes:
        """The file of a module as it is in the guest."""
        mod = self.modules[name]
        data = module(name, mod.depends, mod.aliases, release=release, machine=self.machine)
        kinds = {".ko.gz": "gzip", ".ko.xz": "xz", ".ko.zst": "zstd"}
        return COMPRESS[kinds[self.suffix]](data) if self.suffix in kinds else data

    def initramfs(self, release: str) -> bytes:
        lib = "usr/lib" if self.usrmerge else "lib"
        folder = f"{lib}/modules/{release}"
        files: dict[str, bytes] = {
            "init": b"#!/bin/sh\n", "scripts/functions": b"# functions\n",
            "conf/arch.conf": b"DPKG_ARCH=amd64\n",
            "conf/initramfs.conf": b"MODULES=list\nBUSYBOX=auto\n",
            "conf/modules": b"# List of modules\next4\n",
            "conf/conf.d/resume": f"RESUME={self.swap}\n".encode(),
            f"{lib}/modprobe.d/aliases.conf": b"blacklist pcspkr\n",
            **({f"{lib}/systemd/systemd-udevd": b"\x7fELF udevd",
                f"{lib}/udev/rules.d/80-drivers.rules": b'ENV{MODALIAS}=="?*", RUN{builtin}+="kmod '
                                                        b'load"\n'} if self.udev else {}),
        }
        names = [name for name in self.in_initramfs if name in self.modules]
        if self.tool != "initramfs-tools":
            return self._other_initramfs(release, names)
        files |= {f"{folder}/{self.path(name)}": self.content(name, release) for name in names}
        files |= {f"{folder}/{name}": content
                  for name, content in indexes(self.modules, self.suffix, names).items()}
        links = {"lib": "usr/lib", "sbin": "usr/sbin"} if self.usrmerge else {}
        main = COMPRESS[self.compression](cpio(tree(files, links)))
        return (MICROCODE if self.microcode else b"") + main

    def _other_initramfs(self, release: str, names: list[str]) -> bytes:
        fixture = FIXTURES[self.tool]
        folder = f"{'usr/lib' if 'lib' in fixture.links else 'lib'}/modules/{release}"
        kmod = {f"{folder}/{self.path(name)}": self.content(name, release) for name in names}
        kmod |= {f"{folder}/{name}": content
                 for name, content in indexes(self.modules, self.suffix, names).items()}
        inside = fixture.inside(Inside(
            release, {name: module(name, self.modules[name].depends, self.modules[name].aliases,
                                   release=release, machine=self.machine) for name in names},
            {name: self.modules[name].depends for name in names},
            tuple((alias, name) for name, mod in self.modules.items() for alias in mod.aliases),
            kmod, self.root, self.swap, self.udev))
        main = COMPRESS[self.compression](cpio(tree(inside, fixture.links)))
        return (MICROCODE if self.microcode else b"") + main

    def grub_cfg(self) -> str:
        boot = "" if self.separate_boot else "/boot"
        first = self.releases[0]
        text = ("#\n# DO NOT EDIT THIS FILE\n#\n### BEGIN /etc/grub.d/00_header ###\n"
                "set default=\"0\"\nif [ x\"${feature_menuentry_id}\" = xy ]; then\n"
                "  menuentry_id_option=\"--id\"\nfi\n### END /etc/grub.d/00_header ###\n\n"
                "### BEGIN /etc/grub.d/10_linux ###\n")
        text += entry("Debian GNU/Linux", boot, first, self.root, "quiet", initrd=self.initrd)
        text += ("submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option "
                 f"'gnulinux-advanced-{ROOT_UUID}' {{\n")
        for release in self.releases:
            text += entry(f"Debian GNU/Linux, with Linux {release}", boot, release, self.root,
                          "quiet", indent="\t", initrd=self.initrd)
            text += entry(f"Debian GNU/Linux, with Linux {release} (recovery mode)", boot, release,
                          self.root, "single", indent="\t", initrd=self.initrd)
        return text + "}\n### END /etc/grub.d/10_linux ###\n"

    def filesystems(self) -> tuple[Filesystem, ...]:
        def uuid(value: str) -> str:
            return value if self.uuids else ""
        found = [Filesystem("/dev/sda2", "swap", uuid(SWAP_UUID))]
        if self.separate_boot:
            found += [Filesystem("/dev/sda1", "ext4", uuid(BOOT_UUID), "boot"),
                      Filesystem("/dev/sda3", "ext4", uuid(ROOT_UUID), "root")]
        else:
            found += [Filesystem("/dev/sda1", "ext4", uuid(ROOT_UUID), "root")]
        if self.second_disk:
            found.append(Filesystem("/dev/sdb1", "ext4", uuid(ESP_UUID), "data"))
        return tuple(sorted(found, key=lambda filesystem: filesystem.device))

    def build(self) -> tuple[FakeGuest, Inspection]:
        fstab = ("# /etc/fstab: static file system information.\n#\n"
                 "# <file system> <mount point>   <type>  <options>       <dump>  <pass>\n"
                 f"{self.root}\t/               ext4    errors=remount-ro 0       1\n")
        if self.separate_boot:
            fstab += f"{self._spec(1, BOOT_UUID)}\t/boot ext4 defaults 0 2\n"
        fstab += f"{self.swap} none            swap    sw              0       0\n"
        if self.second_disk:
            fstab += f"/dev/{self.disk[:-1]}b1 /data ext4 defaults 0 2\n"
        fstab += "/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0\n"
        files: dict[str, bytes | str] = {
            "/etc/fstab": fstab,
            **(FIXTURES[self.tool].guest if self.tool != "initramfs-tools" else {
                "/etc/initramfs-tools/initramfs.conf": "MODULES=list\nBUSYBOX=auto\n",
                "/etc/initramfs-tools/modules": "# List of modules\n# one a line\n",
                "/etc/initramfs-tools/conf.d/resume": f"RESUME={self.swap}\n",
                "/usr/sbin/update-initramfs": "#!/bin/sh\n",
                "/usr/sbin/mkinitramfs": "#!/bin/sh\n"}),
        }
        files |= LOADERS[self.loader](self)
        for release in self.releases:
            files |= self._kernel(release)
        files |= self.extra
        mounts = [Mount("/dev/sda3" if self.separate_boot else "/dev/sda1", "/")]
        mounts += [Mount("/dev/sda1", "/boot")] if self.separate_boot else []
        mounts += [Mount("/dev/sdb1", "/data")] if self.second_disk else []
        return FakeGuest(files), Inspection(
            mounts[0].device, self.arch, Firmware.BIOS, self.filesystems(), tuple(mounts),
            LinuxOs("debian", "Debian GNU/Linux 12 (bookworm)", "12.0"))

    def _kernel(self, release: str) -> dict[str, bytes | str]:
        folder = f"/lib/modules/{release}"
        builtin = list(VIRTIO) if self.virtio == "builtin" else []
        config = "" if self.virtio == "absent" else "".join(
            f"CONFIG_{name}={'y' if builtin else 'm'}\n" for name in ("VIRTIO_BLK", "VIRTIO_PCI"))
        files: dict[str, bytes | str] = {
            f"/boot/vmlinuz-{release}": vmlinuz(release),
            f"/boot/config-{release}": f"CONFIG_64BIT=y\n{config}# CONFIG_FOO is not set\n",
            f"{folder}/modules.builtin": "".join(
                f"kernel/{VIRTIO[name].folder}/{name}.ko\n" for name in builtin)
            or "kernel/fs/binfmt.ko\n",
        }
        if self.initrd:
            files[f"/boot/initrd.img-{release}"] = self.initramfs(release)
        files |= {f"{folder}/{self.path(name)}": self.content(name, release)
                  for name in self.modules}
        for name, content in indexes(self.modules, self.suffix, self.modules).items():
            files[f"{folder}/{name}"] = content
        return files


def lines_that_differ(before: Sequence[str], after: Sequence[str]) -> int:
    """How many lines are not the same; the numbers of lines must be."""
    assert len(before) == len(after)
    return sum(one != other for one, other in zip(before, after, strict=True))


# --- boot loaders ---------------------------------------------------------------------------------
#
# Fixtures: made after what each distribution's tools write, none of them was ever booted.

MACHINE_ID = "0123456789abcdef0123456789abcdef"


def _grub2(guest: Legacy) -> dict[str, bytes | str]:
    return {"/etc/default/grub": 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet'
                                 f'"\nGRUB_CMDLINE_LINUX="resume={guest.swap}"\n'
                                 "#GRUB_DISABLE_LINUX_UUID=true\n",
            "/boot/grub/grub.cfg": guest.grub_cfg()}


def _bare_grub2(guest: Legacy) -> dict[str, bytes | str]:
    """grub.cfg written by hand: no /etc/default/grub, nothing ever regenerates it."""
    return {"/boot/grub2/grub.cfg": guest.grub_cfg()}


def environment(**variables: str) -> str:
    """GRUB's environment block, as grub2-editenv writes it."""
    text = "# GRUB Environment Block\n" + "".join(f"{k}={v}\n" for k, v in variables.items())
    return text + "#" * (1024 - len(text))


#: 10_linux of Enterprise Linux 8 and 9 and Fedora, shortened.
BLS_CONFIG = """\
### BEGIN /etc/grub.d/00_header ###
set pager=1
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
### BEGIN /etc/grub.d/10_linux ###
insmod part_msdos
insmod ext2
insmod blscfg
# The kernelopts variable should be defined in the grubenv file.
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=@ROOT@ ro resume=@SWAP@ "
fi
blscfg
### END /etc/grub.d/10_linux ###
### BEGIN /etc/grub.d/30_uefi-firmware ###
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
\tfwsetup
}
"""


def bls_entry(guest: Legacy, release: str, options: str) -> str:
    boot = "" if guest.separate_boot else "/boot"
    return (f"title Enterprise Linux ({release}) 8 (Ootpa)\nversion {release}\n"
            f"linux {boot}/vmlinuz-{release}\n"
            f"initrd {boot}/initrd.img-{release} $tuned_initrd\noptions {options}\n"
            "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n")


def _bls(guest: Legacy, options: str, **more: str) -> dict[str, bytes | str]:
    config = BLS_CONFIG.replace("@ROOT@", guest.root).replace("@SWAP@", guest.swap)
    return {
        "/etc/default/grub": 'GRUB_DEFAULT=saved\nGRUB_ENABLE_BLSCFG=true\n'
                             f'GRUB_CMDLINE_LINUX="resume={guest.swap} rhgb quiet"\n',
        "/boot/grub2/grub.cfg": config,
        "/boot/grub2/grubenv": environment(
            saved_entry=f"{MACHINE_ID}-{guest.releases[0]}", boot_success="0", **more),
        **{f"/boot/loader/entries/{MACHINE_ID}-{release}.conf": bls_entry(guest, release, options)
           for release in guest.releases}}


def _bls_el8(guest: Legacy) -> dict[str, bytes | str]:
    return _bls(guest, "$kernelopts $tuned_params",
                kernelopts=f"root={guest.root} ro resume={guest.swap} rhgb quiet")


def _bls_el9(guest: Legacy) -> dict[str, bytes | str]:
    options = f"root={guest.root} ro crashkernel=1G-4G:192M resume={guest.swap} rhgb quiet"
    return {**_bls(guest, f"{options} $tuned_params"), "/etc/kernel/cmdline": f"{options}\n"}


def _grub_legacy(guest: Legacy) -> dict[str, bytes | str]:
    """Debian's update-grub of GRUB 0.97."""
    boot = "" if guest.separate_boot else "/boot"
    text = ("# menu.lst - See: grub(8), info grub, update-grub(8)\ndefault\t\t0\ntimeout\t\t5\n"
            "color cyan/blue white/blue\n### BEGIN AUTOMAGIC KERNELS LIST\n"
            "## ## Start Default Options ##\n## e.g. kopt=root=/dev/hda1 ro\n"
            f"# kopt=root={guest.root} ro\n# groot=(hd0,0)\n# alternative=true\n"
            f"# defoptions=quiet resume={guest.swap}\n# altoptions=(single-user mode) single\n"
            "## ## End Default Options ##\n\n")
    for release in guest.releases:
        for name, more in (("", " quiet"), (" (single-user mode)", " single")):
            text += (f"title\t\tDebian GNU/Linux, kernel {release}{name}\nroot\t\t(hd0,0)\n"
                     f"kernel\t\t{boot}/vmlinuz-{release} root={guest.root} ro{more}\n")
            text += f"initrd\t\t{boot}/initrd.img-{release}\n" if guest.initrd else ""
            text += "savedefault\n\n"
    return {"/boot/grub/menu.lst": text + "### END DEBIAN AUTOMAGIC KERNELS LIST\n",
            "/boot/grub/stage2": b"stage2", "/boot/grub/device.map": f"(hd0)\t/dev/{guest.disk}\n"}


def _grub_conf(guest: Legacy) -> dict[str, bytes | str]:
    """Anaconda's grub.conf, with /etc/sysconfig/grub: Enterprise Linux 5 and 6."""
    boot = "" if guest.separate_boot else "/boot"
    text = ("# grub.conf generated by anaconda\n#\n"
            f"#          kernel {boot}/vmlinuz-version ro root={guest.root}\n"
            f"#boot=/dev/{guest.disk}\ndefault=0\ntimeout=5\n"
            "splashimage=(hd0,0)/grub/splash.xpm.gz\nhiddenmenu\n")
    for release in guest.releases:
        text += (f"title CentOS ({release})\n\troot (hd0,0)\n\tkernel {boot}/vmlinuz-{release} ro "
                 f"root={guest.root} rd_NO_LUKS LANG=C rhgb quiet resume={guest.swap}\n")
        text += f"\tinitrd {boot}/initrd.img-{release}\n" if guest.initrd else ""
    return {"/boot/grub/grub.conf": text, "/boot/grub/menu.lst": text,
            "/etc/sysconfig/grub": f"boot=/dev/{guest.disk}\nforcelba=0\n",
            "/boot/grub/device.map": f"# this device map was generated by anaconda\n(hd0)     "
                                     f"/dev/{guest.disk}\n"}


def _extlinux(guest: Legacy) -> dict[str, bytes | str]:
    """Debian's extlinux-update: the labels are in a file that a theme includes."""
    boot = "" if guest.separate_boot else "/boot"
    labels = ""
    for number, release in enumerate(guest.releases):
        for kind, more in (("", "ro quiet"), ("r", "ro single")):
            initrd = f"initrd={boot}/initrd.img-{release} " if guest.initrd else ""
            labels += (f"label l{number}{kind}\n\tmenu label Debian GNU/Linux, kernel {release}\n"
                       f"\tlinux {boot}/vmlinuz-{release}\n\tappend {initrd}root={guest.root} "
                       f"{more}\n\n")
    return {"/boot/extlinux/extlinux.conf": "default l0\nprompt 0\ntimeout 50\n\n"
                                            "include themes/debian/theme.cfg\n",
            "/boot/extlinux/themes/debian/theme.cfg": "ui vesamenu.c32\ninclude linux.cfg\n",
            "/boot/extlinux/linux.cfg": f"## /boot/extlinux/linux.cfg\n{labels}",
            "/boot/extlinux/ldlinux.sys": b"ldlinux",
            "/etc/default/extlinux": f'EXTLINUX_UPDATE="true"\nEXTLINUX_ROOT="root={guest.root}"\n'
                                     'EXTLINUX_PARAMETERS="ro quiet"\n'}


def _alpine(guest: Legacy) -> dict[str, bytes | str]:
    """Alpine's extlinux.conf, generated from /etc/update-extlinux.conf."""
    labels = "".join(
        f"LABEL k{number}\n  MENU LABEL Linux {release}\n  LINUX vmlinuz-{release}\n"
        + (f"  INITRD initrd.img-{release}\n" if guest.initrd else "")
        + f"  APPEND root={guest.root} modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4\n\n"
        for number, release in enumerate(guest.releases))
    return {"/boot/extlinux.conf": "# Generated by update-extlinux\nDEFAULT menu.c32\nPROMPT 0\n"
                                   f"MENU TITLE Alpine/Linux Boot Menu\nTIMEOUT 10\n{labels}",
            "/boot/ldlinux.sys": b"ldlinux",
            "/etc/update-extlinux.conf": f"overwrite=1\nroot={guest.root}\n"
                                         "modules=sd-mod,usb-storage,ext4\n"}


#: As much of systemd-boot as is asked for.
SYSTEMD_BOOT = b"MZ" + bytes(100) + b"#### LoaderInfo: systemd-boot 252.5 ####"


def _systemd_boot(guest: Legacy) -> dict[str, bytes | str]:
    """The EFI system partition is /boot, as bootctl install has it; or that is XBOOTLDR."""
    files: dict[str, bytes | str] = {
        "/boot/loader/loader.conf": "timeout 3\n#console-mode keep\n"
                                    f"default {MACHINE_ID}-*\n",
        "/boot/EFI/systemd/systemd-bootx64.efi": SYSTEMD_BOOT,
        "/boot/EFI/BOOT/BOOTX64.EFI": SYSTEMD_BOOT,
        "/etc/kernel/cmdline": f"root={guest.root} ro quiet\n"}
    for release in guest.releases:
        initrd = f"initrd     /initrd.img-{release}\n" if guest.initrd else ""
        files[f"/boot/loader/entries/{MACHINE_ID}-{release}.conf"] = (
            f"title      Debian GNU/Linux 12 (bookworm)\nversion    {release}\n"
            f"machine-id {MACHINE_ID}\nsort-key   debian\n"
            f"options    root={guest.root} ro quiet\nlinux      /vmlinuz-{release}\n{initrd}")
    return files


def _direct(guest: Legacy) -> dict[str, bytes | str]:
    return {}


LOADERS: dict[str, Callable[[Legacy], dict[str, bytes | str]]] = {
    "grub2": _grub2, "bare-grub2": _bare_grub2, "bls-el8": _bls_el8, "bls-el9": _bls_el9,
    "grub-legacy": _grub_legacy, "grub.conf": _grub_conf, "extlinux": _extlinux, "alpine": _alpine,
    "systemd-boot": _systemd_boot, "direct": _direct}
