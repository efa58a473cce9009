"""Driver payloads: a virtio-win ISO or folder, and the best driver in it for one Windows.

Opening reads names only, and selecting the INF files of folders that may fit, then the files of the
package that is taken: an ISO has 600 MB and some 250 packages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from imgconv.windows import inf
from imgconv.windows.inf import BadInf, Inf, Version
from imgconv.windows.payload_checks import NotSuited, NotUsable, check
from imgconv.windows.payload_find import find, payload_in
from imgconv.windows.payload_labels import LABELS, Label, of_folder
from imgconv.windows.payload_tree import BadPayload, Tree, open_tree
from imgconv.windows.versions import WindowsVersion

__all__ = ["BadPayload", "DriverPackage", "NotSuited", "NotUsable", "Offer", "Payload", "Refusal",
           "Selection", "find", "open_payload"]

_MOST_INFS: Final = 5000
_MOST_FILES: Final = 200
_PACKAGE_LIMIT: Final = 128 << 20
_AGENT_LIMIT: Final = 64 << 20
#: The installers in guest-agent/, the newer name first.
_AGENTS: Final = {"x86": ("qemu-ga-i386.msi", "qemu-ga-x86.msi"),
                  "amd64": ("qemu-ga-x86_64.msi", "qemu-ga-x64.msi"),
                  "arm64": ("qemu-ga-aarch64.msi", "qemu-ga-arm64.msi")}
_NO_MODEL = "its INF has no model for this Windows and processor"
_MSI = bytes.fromhex("d0cf11e0a1b11ae1")  # a compound file


@dataclass(frozen=True, slots=True)
class DriverPackage:
    """One driver for one Windows and architecture, loaded and checked.

    `files` has every file of the package by its name in small letters: the INF, the catalog and
    what the INF copies. `origin` says to people where it is from. `signer` is the name in the
    catalog's signature, "" when there is none. `warnings` say what may keep Windows from loading it
    that cannot be seen here.
    """

    inf: Inf
    files: Mapping[str, bytes]
    arch: str
    origin: str
    signer: str
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the driver is called: the INF's name without its ending, in small letters."""
        return self.inf.name.lower().removesuffix(".inf")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A driver that is there but must not be used."""

    name: str
    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The best package of each driver for one Windows, by name; and what was refused.

    `agent` is QEMU's guest agent's installer as (file name, content). `unsuited` are the drivers
    that the payload has for other Windows versions or processors only.
    """

    packages: tuple[DriverPackage, ...]
    refused: tuple[Refusal, ...] = ()
    agent: tuple[str, bytes] | None = None
    unsuited: tuple[Refusal, ...] = ()

    def package(self, name: str) -> DriverPackage | None:
        return next((package for package in self.packages if package.name == name), None)


@dataclass(frozen=True, slots=True)
class Offer:
    """An INF file of a payload, not read yet; `label` and `arch` are what its folder says."""

    path: str
    label: Label | None
    arch: str | None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2].lower().removesuffix(".inf")

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    def may_fit(self, windows: WindowsVersion) -> bool:
        return self.arch in (None, windows.arch) and (
            self.label is None or self.label.not_newer(windows))

    def rank(self, windows: WindowsVersion) -> tuple[tuple[int, int], bool, int]:
        """Higher for a better folder: nearest version, client for client, newest build."""
        if self.label is None:
            return (0, 0), False, 0
        return self.label.release, self.label.server == windows.server, self.label.builds[0]


class Payload:
    """An open payload; close it, or use it as a context."""

    def __init__(self, tree: Tree) -> None:
        """Raises BadPayload when there is no INF file in the tree."""
        self.path = tree.path
        self._tree = tree
        self._infs: dict[str, Inf] = {}
        paths = [name for key, name in sorted(tree.files.items()) if key.endswith(".inf")]
        if not paths or len(paths) > _MOST_INFS:
            raise BadPayload(
                f"{tree.path} is no usable driver payload: it has "
                + ("no INF file" if not paths else f"more than {_MOST_INFS} INF files"),
                hint="give a virtio-win ISO, or the folder of an unpacked one; "
                     "scripts/fetch-virtio-win downloads one")
        self.offers = tuple(Offer(path, *of_folder(path.rpartition("/")[0])) for path in paths)

    @property
    def files(self) -> Sequence[str]:
        """The paths of all files, also of those that belong to no driver."""
        return tuple(self._tree.files.values())

    def select(self, windows: WindowsVersion) -> Selection:
        """The best usable package of each driver, and the guest agent. Raises BadPayload."""
        packages: list[DriverPackage] = []
        refused: list[Refusal] = []
        unsuited: list[Refusal] = []
        for name, group in groupby(sorted(self.offers, key=lambda offer: offer.name),
                                   lambda offer: offer.name):
            offers = list(group)
            found = self._best(offers, windows, refused)
            if isinstance(found, DriverPackage):
                packages.append(found)
            elif found:
                unsuited.append(Refusal(name, self.path.name, found))
        agent = self._agent(windows.arch, refused)
        return Selection(tuple(packages), tuple(refused), agent, tuple(unsuited))

    def applies(self, offer: Offer, windows: WindowsVersion) -> bool:
        """Whether an INF is for that Windows and processor. Raises BadInf, BadPayload."""
        return bool(self._inf(offer).models(windows))

    def version(self, offer: Offer, windows: WindowsVersion) -> Version:
        """What an INF says of itself. Raises BadInf, BadPayload."""
        return self._inf(offer).version(windows)

    def load(self, offer: Offer, windows: WindowsVersion) -> DriverPackage:
        """One package, read and checked. Raises NotUsable (also when it is for another Windows),
        BadInf, BadPayload."""
        parsed = self._inf(offer)
        models = parsed.models(windows)
        if not models:
            raise NotSuited(_NO_MODEL)
        installations = [parsed.installation(section, windows)
                         for section in dict.fromkeys(model.install for model in models)]
        catalog = parsed.version(windows).catalog
        needed = dict.fromkeys(file.source for one in installations for file in one.files)
        files = self._files(offer, list(needed), catalog)
        boot = any(service.start == 0 for one in installations for service in one.services)
        verdict = check(files, catalog, windows, boot=boot)
        return DriverPackage(parsed, files, windows.arch, self.origin(offer), verdict.signer,
                             verdict.warnings)

    def close(self) -> None:
        self._tree.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _best(self, offers: Sequence[Offer], windows: WindowsVersion,
              refused: list[Refusal]) -> DriverPackage | str:
        """The first usable one from the best folders down, within equal ones the newest first; or
        why none of them is for this Windows, "" when it is because of what was refused."""
        count = len(refused)
        why = ""
        fitting = sorted((offer for offer in offers if offer.may_fit(windows)),
                         key=lambda offer: offer.rank(windows), reverse=True)
        for _, group in groupby(fitting, lambda offer: offer.rank(windows)):
            applying: list[tuple[Version, Offer]] = []
            for offer in group:
                try:
                    if self.applies(offer, windows):
                        applying.append((self.version(offer, windows), offer))
                except (BadInf, BadPayload) as error:
                    refused.append(self._refusal(offer, error.message))
            applying.sort(key=lambda pair: (pair[0].date, pair[0].version), reverse=True)
            for _, offer in applying:
                try:
                    return self.load(offer, windows)
                except NotSuited as error:
                    why = why or error.message
                except (NotUsable, BadInf, BadPayload) as error:
                    refused.append(self._refusal(offer, error.message))
        if why or len(refused) > count:
            return why
        return _NO_MODEL if fitting else _for_others(offers)

    def _inf(self, offer: Offer) -> Inf:
        if offer.path not in self._infs:
            data = self._tree.read(offer.path, inf.INF_LIMIT)
            self._infs[offer.path] = inf.parse(data, offer.path.rpartition("/")[2])
        return self._infs[offer.path]

    def _files(self, offer: Offer, sources: Sequence[str], catalog: str) -> dict[str, bytes]:
        """The INF, what it copies, and the catalog where there is one. Raises NotUsable."""
        if len(sources) > _MOST_FILES:
            raise NotUsable(f"its INF copies more than {_MOST_FILES} files")
        files = {}
        total = 0
        for name in (offer.path.rpartition("/")[2], *sources, *([catalog] if catalog else [])):
            relative = name.replace("\\", "/").lower()
            path = f"{offer.folder}/{relative}".removeprefix("/").lower()
            if path in self._tree.files:
                files[relative] = self._tree.read(path)
                total += len(files[relative])
            elif name != catalog:
                raise NotUsable(f"the file {name}, which its INF copies, is missing")
            if total > _PACKAGE_LIMIT:
                raise NotUsable(f"it is larger than {_PACKAGE_LIMIT >> 20} MiB")
        return files

    def _agent(self, arch: str, refused: list[Refusal]) -> tuple[str, bytes] | None:
        for wanted in _AGENTS.get(arch, ()):
            for path, name in sorted(self._tree.files.items()):
                if path.rpartition("/")[2] == wanted:
                    try:
                        data = self._tree.read(path, _AGENT_LIMIT)
                    except BadPayload as error:
                        refused.append(Refusal("guest agent", f"{self.path.name}/{name}",
                                               error.message))
                        continue
                    if data.startswith(_MSI):
                        return name.rpartition("/")[2], data
                    refused.append(Refusal("guest agent", f"{self.path.name}/{name}",
                                           "it is no Windows Installer package"))
        return None

    def origin(self, offer: Offer) -> str:
        """Where it is from, for people."""
        return f"{self.path.name}/{offer.folder}".rstrip("/")

    def _refusal(self, offer: Offer, why: str) -> Refusal:
        return Refusal(offer.name, self.origin(offer), why)


def open_payload(path: Path | None = None) -> Payload:
    """Open the payload at `path`, or the one that `find` finds. A folder may also be one that only
    has an ISO in it. Raises BadPayload."""
    place = path or find()
    if place is None:
        raise BadPayload("no drivers for Windows were found",
                         hint="download them with scripts/fetch-virtio-win, or give --drivers "
                              "PATH (a virtio-win ISO or folder)")
    tree = open_tree(payload_in(place) or place)
    try:
        return Payload(tree)
    except BaseException:
        tree.close()
        raise


def _for_others(offers: Sequence[Offer]) -> str:
    labels: dict[str, list[Label]] = {}
    for offer in offers:
        if offer.label:
            labels.setdefault(offer.arch or "any processor", []).append(offer.label)
    return "it is there only for " + ", ".join(
        f"{arch} ({' '.join(label.name for label in LABELS if label in found)})"
        for arch, found in sorted(labels.items()))
