"""What an INF adds to the registry, by key; and the names that may be those of keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imgconv.windows.inf import Addition, BadInf


def grouped(additions: Iterable[Addition],
            ) -> Iterator[tuple[str, tuple[Addition, ...]]]:
    """The additions to a key of the device's or driver's own (HKR), by the key's path below it.

    Those that only make the key leave it without any.
    """
    found: dict[str, tuple[str, list[Addition]]] = {}
    for one in additions:
        if one.root.upper() != "HKR":
            continue
        key = key_path(one.key) if one.key else ""
        _, values = found.setdefault(key.upper(), (key, []))
        if one.name is not None:
            values.append(one)
    for key, values in found.values():
        yield key, tuple(values)


def key_path(path: str) -> str:
    """A path of keys that an INF names. Raises BadInf when it cannot be one."""
    if not all(0 < len(part) <= 255 and "\0" not in part for part in path.split("\\")):
        raise BadInf(f"the INF names what cannot be a key of the registry: {path!r}",
                     hint="this driver package is damaged: get it anew")
    return path


def key_name(name: str) -> str:
    """The name of one key that an INF names. Raises BadInf when it cannot be one."""
    if "\\" in name:
        raise BadInf(f"the INF has a backslash in a name: {name!r}",
                     hint="this driver package is damaged: get it anew")
    return key_path(name)
