"""dracut: Fedora, Red Hat since 6, SUSE since 12, and whoever likes it. See dracut.conf(5).

Its images are recognised by lib/dracut, with systemd as /init or a script. Either loads drivers by
udev; what is listed is loaded before that (dracut.cmdline(7), rd.driver.pre).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.linux.initramfs import edits, systemd
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import KMOD, Layout
from imgconv.linux.kernels import Kernel
from imgconv.linux.modinfo import normalise
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "dracut"
LAYOUT: Layout = KMOD

_CONF = "/etc/dracut.conf"
_CONF_D = "/etc/dracut.conf.d"
_OURS = f"{_CONF_D}/imgconv.conf"
#: Packages' own files, which those in /etc of the same name replace.
_VENDOR_D = ("/usr/lib/dracut/dracut.conf.d",)

_SETTING = re.compile(r"^[ \t]*(?P<key>\w+)\+?=(?P<quote>[\"']?)(?P<value>[^\"'\n]*)", re.MULTILINE)
_OMIT = re.compile(r"^[ \t]*omit_drivers\+?=.*", re.MULTILINE)
_WORD = re.compile(r"(?<![\w-])(?P<word>[\w-]+)(?![\w-]) ?")
_WITH_DEVICES = re.compile(r"[ \t]*(?:add_device|host_devs|kernel_cmdline|fstab_lines)\+?=")
_CMDLINE = "etc/cmdline.d/20-imgconv.conf"


def detect(reader: Reader) -> bool:
    return edits.program(reader, "dracut")


def built(initramfs: Initramfs) -> bool:
    return any(map(initramfs.has, ("usr/lib/dracut", "lib/dracut", "var/lib/dracut",
                                   "lib/dracut-lib.sh")))  # the last for Red Hat 6


# --- its configuration ----------------------------------------------------------------------------


def _conf_files(reader: Reader) -> tuple[str, ...]:
    own = tuple(name for name in reader.names(_CONF_D) if name.endswith(".conf"))
    vendor = tuple(f"{folder}/{name}" for folder in _VENDOR_D for name in reader.names(folder)
                   if name.endswith(".conf") and name not in own)
    return (*vendor, _CONF, *(f"{_CONF_D}/{name}" for name in own))


def _added(text: str) -> set[str]:
    return {normalise(word) for match in _SETTING.finditer(text)
            if match["key"] in ("add_drivers", "force_drivers")
            for word in match["value"].split()}


def _mended(text: str, renamer: Renamer, drivers: Sequence[str]) -> str:
    """No driver is left out, and devices have their new names."""
    text = _OMIT.sub(lambda line: _WORD.sub(
        lambda word: "" if normalise(word["word"]) in drivers else word[0], line[0]), text)
    return "".join(edits.devices(line, renamer) if _WITH_DEVICES.match(line) else line
                   for line in lines(text))


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    """A generic image has the drivers anyway, but one made for this host (hostonly) has them only
    once it has been made on the new bus, and settings may change."""
    paths = _conf_files(reader)
    # dracut of Red Hat 6 may have no folder of fragments.
    ours = _OURS if reader.is_dir(_CONF_D) or reader.size(_CONF) is None else _CONF
    elsewhere = {driver for path in paths if path != ours
                 for driver in _added(read_text(reader, path) or "")}

    def added(text: str) -> str:
        text = _mended(text, renamer, drivers)
        have = elsewhere | _added(text)
        missing = [driver for driver in drivers if driver not in have]
        return edits.appended(text, f'add_drivers+=" {" ".join(missing)} "\n' if missing else "")

    changes: list[WriteFile] = []
    for path in dict.fromkeys((*(path for path in paths if path.startswith("/etc/")), ours)):
        changes += edits.put(reader, path, added) if path == ours else edit(
            reader, path, lambda text: _mended(text, renamer, drivers), edits.WHY)
    return tuple(changes)


# --- inside an initramfs --------------------------------------------------------------------------


def _reads_cmdline_d(initramfs: Initramfs) -> bool:
    """Whether rd.driver.pre= in /etc/cmdline.d is heard: the hook is there and knows that name (Red
    Hat 6 called it rdloaddriver), and so does the function that collects the command line."""
    hooks = [name for name in initramfs.entries if name.endswith("-parse-kernel.sh")
             and "/hooks/cmdline/" in name]
    libs = [folder for folder in ("usr/lib", "lib") if initramfs.has(f"{folder}/dracut-lib.sh")]
    return any("rd.driver.pre" in edits.text(initramfs, name) for name in hooks[:10]) and any(
        "/etc/cmdline.d/" in edits.text(initramfs, f"{folder}/dracut-lib.sh") for folder in libs)


def _cmdlines(initramfs: Initramfs) -> list[str]:
    return [name for name in initramfs.below("etc/cmdline.d") if name.endswith(".conf")]


def loads(initramfs: Initramfs, driver: str) -> str | None:
    if (by := systemd.loads(initramfs, driver)) is not None:
        return by
    if not _reads_cmdline_d(initramfs):
        return None
    return next((name for name in _cmdlines(initramfs)
                 for word in edits.text(initramfs, name).split()
                 if word.startswith("rd.driver.pre=")
                 and driver in normalise(word.partition("=")[2]).split(",")), None)


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    # Of an image made for its host: parameters, and the devices that it waits for.
    files = edits.rewritten(initramfs, _cmdlines(initramfs),
                            lambda text: cmdline.rewrite(text, renamer))
    files |= edits.rewritten(
        initramfs, [name for name in initramfs.entries
                    if "/dracut/hooks/" in name and "/devexists-" in name],
        lambda text: edits.devices(text, renamer))
    files |= systemd.crypttab_names(initramfs, renamer)
    if all(loads(initramfs, driver) for driver in drivers):
        return files
    if systemd.is_init(initramfs):
        files |= systemd.additions(initramfs, drivers)
    elif _reads_cmdline_d(initramfs):
        files[_CMDLINE] = "".join(f"rd.driver.pre={driver}\n" for driver in drivers).encode()
    return files


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """dracut overwrites nothing without -f, and an image for the host would be one for the
    appliance: --no-hostonly, which Red Hat 6 neither needs nor knows (it keeps dracut's modules in
    /usr/share). What a host's own image had of rd.luks and rd.lvm must then be on the kernel's
    command line, where installers put it."""
    path = kernel.initramfs or ""
    argv = ["dracut", "-f"]
    if not reader.is_dir("/usr/share/dracut/modules.d"):
        argv.append("--no-hostonly")
    if "-rescue" in path.rpartition("/")[2]:
        argv += ["--add", "rescue"]  # as 51-dracut-rescue.install does
    if drivers:
        argv += ["--add-drivers", " ".join(drivers)]
    return (), RunInGuest((*argv, path, kernel.release),
                          f"build the initramfs of {kernel.release} with the drivers")
