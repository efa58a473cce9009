"""XML from strangers: no document type, so no entities and nothing to fetch, and limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Never
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from imgconv.errors import HostileInput, ImgconvError

_MAX_ELEMENTS = 50_000
_MAX_DEPTH = 64


def parse(data: bytes) -> Element:
    """The root element; names of elements and attributes come as "namespace}name".

    Raises HostileInput for what is not well-formed, has a document type, or exceeds a limit.
    """
    builder = TreeBuilder()
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _MAX_DEPTH or count > _MAX_ELEMENTS:
            raise HostileInput("the XML is deeper or longer than any description",
                               hint="is it the right file?")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except ImgconvError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise HostileInput(f"the XML is not well-formed: {error}",
                           hint="was it copied or downloaded completely?") from error
    return builder.close()


def _refuse_doctype(*_: object) -> Never:
    raise HostileInput("the XML has a document type (DOCTYPE), which no description has",
                       hint="entities could read files of this host or fill its memory; remove it "
                            "if you trust the file")


def local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2]


def children(element: Element, name: str) -> Iterator[Element]:
    """The child elements of this local name."""
    return (child for child in element if local(child.tag) == name)


def child(element: Element, *path: str) -> Element | None:
    """What the local names `path` lead to, by the first of each."""
    found: Element | None = element
    for name in path:
        found = None if found is None else next(children(found, name), None)
    return found


def text(element: Element, *path: str) -> str:
    """The text of what `path` leads to; "" for none."""
    found = child(element, *path)
    return "" if found is None else (found.text or "").strip()


def attribute(element: Element | None, name: str) -> str:
    """The attribute of this local name; "" for none."""
    if element is None:
        return ""
    return next((value for key, value in element.attrib.items() if local(key) == name), "")
