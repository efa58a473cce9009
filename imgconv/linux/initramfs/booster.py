"""booster: Arch Linux and relatives. See booster(1), docs/manpage.md in its source.

/init is one program. It reads /etc/booster.init.yaml (which module needs which, and what is loaded
at once) and /usr/lib/modules/booster.alias ("pattern module"), by which it loads the driver of each
device; modules are /usr/lib/modules/NAME.ko, unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader
from imgconv.linux import modindex
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import lines
from imgconv.linux.initramfs import compression, edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Coldplug, Layout, tree_aliases
from imgconv.linux.kernels import Kernel
from imgconv.linux.modindex import Item
from imgconv.linux.modinfo import LIMIT, normalise
from imgconv.linux.modules import ModuleTree
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "booster"

_CONF = "/etc/booster.yaml"
_INIT = "etc/booster.init.yaml"
_FOLDER = "usr/lib/modules"
_ALIAS = f"{_FOLDER}/booster.alias"
#: What one module may need, directly and not.
_MAX_NEEDS = 200

_SETTING = re.compile(r"^modules_force_load:[ \t]*(?P<quote>[\"']?)(?P<value>[^\"'\n#]*)",
                      re.MULTILINE)
_TOP = re.compile(r"(?P<key>\w+):[ \t]*(?P<value>.*)")
_KEY = re.compile(r"(?P<indent> +)(?P<key>[^\s:\-\"'][^:]*):[ \t]*")
_ITEM = re.compile(r"(?P<indent> *)- (?P<value>\S+)[ \t]*")


@dataclass(frozen=True, slots=True)
class _Config:
    """booster.init.yaml as Go's yaml package writes it: blocks, one item a line."""

    needs: Mapping[str, tuple[str, ...]]
    forced: tuple[str, ...]


def _parse(text: str) -> _Config:
    """Raises HostileInput when it is of another form."""
    needs: dict[str, list[str]] = {}
    forced: list[str] = []
    top, current = "", None
    for line in text.split("\n"):
        if match := _TOP.fullmatch(line):
            top, current = match["key"], None
            if top in ("moduledependencies", "modulesforceload") and match["value"] not in (
                    "", "[]", "{}"):
                raise HostileInput(f"{top} in booster.init.yaml is not in booster's form")
        elif top == "moduledependencies" and (match := _KEY.fullmatch(line)):
            current = needs.setdefault(normalise(match["key"]), [])
        elif match := _ITEM.fullmatch(line):
            if top == "moduledependencies" and current is not None:
                current.append(normalise(match["value"]))
            elif top == "modulesforceload":
                forced.append(normalise(match["value"]))
    return _Config({key: tuple(value) for key, value in needs.items()}, tuple(forced))


@dataclass(frozen=True, slots=True)
class _Flat:
    index_name: str = "booster.init.yaml"
    packed: bool = False

    def folder(self, initramfs: Initramfs, release: str) -> str:
        return initramfs.resolve(_FOLDER)

    def index(self, initramfs: Initramfs, folder: str) -> dict[str, tuple[str, ...]] | None:
        needs = _parse(edits.text(initramfs, _INIT)).needs
        return {name: tuple(f"{need}.ko" for need in _all(needs, name))
                for name in self.present(initramfs, folder)}

    def present(self, initramfs: Initramfs, folder: str) -> dict[str, str]:
        return {modindex.module_name(path): path for path in initramfs.below(folder)
                if path.endswith(".ko") and path.count("/") == folder.count("/") + 1}

    def coldplug(self, initramfs: Initramfs, folder: str) -> Coldplug | None:
        rows = (line.split(" ") for line in edits.text(initramfs, _ALIAS).split("\n"))
        return Coldplug("booster, by booster.alias",
                        tuple(Item(modindex.normalise_alias(row[0]), at, normalise(row[1]))
                              for at, row in enumerate(rows) if len(row) == 2))

    def to_load(self, tree: ModuleTree, drivers: Sequence[str]) -> tuple[str, ...]:
        return tuple(modindex.module_name(path) for path in tree.closure(drivers))

    def files(self, reader: Reader, initramfs: Initramfs, tree: ModuleTree,
              closure: Sequence[str]) -> dict[str, bytes]:
        folder = self.folder(initramfs, tree.release)
        present = self.present(initramfs, folder)
        names = {path: modindex.module_name(path) for path in closure}
        files = {f"{folder}/{name}.ko": compression.decompress_file(
            reader.read(f"{tree.folder}/{path}", LIMIT), LIMIT)
            for path, name in names.items() if name not in present}
        wanted = set(names.values())
        before = edits.text(initramfs, _ALIAS)
        have = set(before.split("\n"))
        rows = [f"{pattern} {name}" for pattern, name in tree_aliases(reader, tree)
                if normalise(name) in wanted]
        added = [row for row in dict.fromkeys(rows) if row not in have]
        after = before + ("" if not before or before.endswith("\n") else "\n") + "".join(
            f"{row}\n" for row in added)
        return files | {_ALIAS: after.encode("utf-8", "surrogateescape")}


LAYOUT: Layout = _Flat()


def _all(needs: Mapping[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    """`name` and all that it needs."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        one = todo.pop()
        if one not in found:
            found[one] = None
            if len(found) > _MAX_NEEDS:
                raise HostileInput(f"{name} is said to need more than {_MAX_NEEDS} modules")
            todo += needs.get(one, ())
    return tuple(found)


def detect(reader: Reader) -> bool:
    return edits.program(reader, "booster") and (
        reader.is_dir("/usr/lib/booster") or reader.size(_CONF) is not None)


def built(initramfs: Initramfs) -> bool:
    return initramfs.has(_INIT)


def _with_modules(text: str, drivers: Sequence[str]) -> str:
    matches = list(_SETTING.finditer(text))
    if not matches:
        return edits.appended(text,
                              f"modules_force_load: {','.join(drivers)}\n" if drivers else "")
    last = matches[-1]
    words = [word.strip() for word in last["value"].split(",") if word.strip()]
    missing = [driver for driver in drivers if driver not in map(normalise, words)]
    if not missing:
        return text
    return text[:last.start("value")] + ",".join([*words, *missing]) + text[last.end("value"):]


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    """What is loaded by force is taken in, whatever devices booster sees when it builds."""
    return edits.put(reader, _CONF, lambda text: _with_modules(text, drivers))


def loads(initramfs: Initramfs, driver: str) -> str | None:
    forced = _parse(edits.text(initramfs, _INIT)).forced
    return "modulesforceload of booster.init.yaml" if driver in forced else None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    """`drivers` come in the order in which they can be loaded, so each new one is said to need
    those before it: more than it does, and never a loop."""
    before = edits.text(initramfs, _INIT)
    config = _parse(before)
    new = {name: drivers[:at] for at, name in enumerate(drivers)
           if at and name not in config.needs}
    forced = [name for name in drivers if name not in config.forced]
    after = before
    if new:
        after = _block(after, "moduledependencies", _KEY, lambda indent: "".join(
            f"{indent}{name}:\n" + "".join(f"{indent}    - {need}\n" for need in needs)
            for name, needs in new.items()))
    if forced:
        after = _block(after, "modulesforceload", _ITEM, lambda indent: "".join(
            f"{indent}- {name}\n" for name in forced))
    return {_INIT: after.encode("utf-8", "surrogateescape")} if after != before else {}


def _block(text: str, key: str, row: re.Pattern[str], added: Callable[[str], str]) -> str:
    """`text` with rows added at the head of the block `key`, indented as those that are there."""
    rows = lines(text if not text or text.endswith("\n") else text + "\n")
    for at, line in enumerate(rows):
        if (match := _TOP.fullmatch(line.rstrip("\n"))) and match["key"] == key:
            following = row.fullmatch(rows[at + 1].rstrip("\n")) if at + 1 < len(rows) else None
            indent = following["indent"] if following else "    "
            return "".join([*rows[:at], f"{key}:\n", added(indent), *rows[at + 1:]])
    return "".join([*rows, f"{key}:\n", added("    ")])


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """Not universal it would hold what the appliance's devices need."""
    return (), RunInGuest(("booster", "build", "--force", "--universal", "--kernel-version",
                           kernel.release, kernel.initramfs or ""),
                          f"build the initramfs of {kernel.release} with the drivers")
