"""Whether Windows would install and load a driver package: processor, signatures, catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.windows import catalog, pe
from imgconv.windows.catalog import Catalog
from imgconv.windows.versions import WindowsVersion

#: 64-bit Windows loads only signed drivers from Vista on.
_ENFORCED_FROM: Final = (6, 0)
#: Display drivers of XP's model (their miniport imports this) were dropped with Windows 8, but
#: their INF files do not say so.
_WITHOUT_XPDM: Final = (6, 2)
_XPDM: Final = "videoprt.sys"
#: 7 and 2008 R2 are the last ones that do not know SHA-2 by themselves.
_WITHOUT_SHA2: Final = (6, 1)
#: "Driver Signing Policy" of Windows 10 1607: with Secure Boot, a driver has Microsoft's own
#: signature or one by a certificate from before this day.
_MICROSOFT_ONLY_FROM: Final = (10, 0, 14393)
_LAST_CROSS_SIGNED: Final = datetime(2015, 7, 29, tzinfo=UTC)


class NotUsable(ImgconvError):
    """A driver package that the guest's Windows would not install or load."""


class NotSuited(NotUsable):
    """A driver package that is in order, but for other versions of Windows."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A package that is usable. `signer` is the name in the catalog, "" without one."""

    signer: str
    warnings: tuple[str, ...]


def check(files: Mapping[str, bytes], catalog_name: str, windows: WindowsVersion, *,
          boot: bool) -> Verdict:
    """Check the files of one package, by name in small letters; `boot` drivers start with Windows.

    `catalog_name` is what the INF calls its catalog. Raises NotUsable.
    """
    programs = {name: _program(name, data) for name, data in files.items() if pe.is_pe(data)
                or name.endswith(".sys")}
    drivers = {name: found for name, found in programs.items() if name.endswith(".sys")}
    for name, found in drivers.items():
        if found.arch != windows.arch:
            raise NotUsable(f"{name} is for {found.arch}, the guest is {windows.arch}")
        if windows.release >= _WITHOUT_XPDM and _XPDM in found.imports:
            raise NotSuited(f"{name} is a display driver of XP's model, which Windows 8 and newer "
                            "do not load")
    enforced = windows.arch != "x86" and windows.release >= _ENFORCED_FROM
    unsigned = [name for name, found in drivers.items() if not found.signed]
    content = files.get(catalog_name.lower()) if catalog_name else None
    if content is None:
        if enforced and unsigned:
            raise NotUsable(f"{unsigned[0]} is not signed, and there is no catalog: 64-bit Windows "
                            "loads only signed drivers")
        return Verdict("", ("it has no catalog, so Windows asks before it installs it",))
    signed = _catalog(catalog_name, content)
    listed = [name for name in files if name != catalog_name.lower()]
    for name in listed:
        if not any(map(signed.lists, _digests(files[name], programs.get(name)))):
            raise NotUsable(f"{catalog_name} does not list {name} as it is here: one of the two "
                            "was changed, or is from another build")
    if enforced and not signed.leads_to_microsoft:
        raise NotUsable(
            f"{catalog_name} is signed by {signed.signer or 'somebody'} with "
            + ("a test certificate" if signed.self_signed else
               "a certificate that does not lead to Microsoft")
            + ": 64-bit Windows would not start with it (0xc0000428)",
            hint="take another version of the drivers: drivers/README.md says which")
    warnings = [*_about_signature(catalog_name, signed, windows, enforced=enforced)]
    if windows.release <= _WITHOUT_SHA2 and (signed.needs_sha2 or not all(
            signed.lists(_digests(files[name], programs.get(name))[0]) for name in listed)):
        warnings.append("it is signed with SHA-2 only: Windows needs the update KB4474419 (or "
                        "KB3033929) before it is converted, or it will not start (0xc0000428)")
    if enforced and boot and unsigned:
        warnings.append(f"{unsigned[0]} starts with Windows, but has no signature of its own, only "
                        "the catalog's")
    return Verdict(signed.signer, tuple(warnings))


def _program(name: str, data: bytes) -> pe.Pe:
    try:
        return pe.parse(data)
    except pe.BadPe as error:
        raise NotUsable(f"{name}: {error.message}", hint=error.hint) from None


def _catalog(name: str, data: bytes) -> Catalog:
    try:
        signed = catalog.parse(data)
    except catalog.BadCatalog as error:
        raise NotUsable(f"{name}: {error.message}", hint=error.hint) from None
    if signed.intact is False:
        raise NotUsable(f"the signature of {name} is broken: it was changed after it was signed")
    return signed


def _digests(data: bytes, program: pe.Pe | None) -> tuple[bytes, bytes]:
    """What a catalog may list a file by: SHA-1 and SHA-256."""
    if program is not None:
        return program.sha1, program.sha256
    return hashlib.sha1(data, usedforsecurity=False).digest(), hashlib.sha256(data).digest()


def _about_signature(name: str, signed: Catalog, windows: WindowsVersion, *,
                     enforced: bool) -> Iterator[str]:
    if signed.intact is None:
        yield f"the signature of {name} is there, but of a kind that is not checked here"
    if (enforced and (*windows.release, windows.build) >= _MICROSOFT_ONLY_FROM
            and not signed.signer.startswith("Microsoft ")
            and signed.not_before >= _LAST_CROSS_SIGNED):
        yield (f"it is signed by {signed.signer}, not by Microsoft: this Windows does not start "
               "with it under Secure Boot")
