"""INF files as text."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.windows import inf_syntax
from imgconv.windows.inf_syntax import FIELD_LIMIT, INF_LIMIT, BadInf, Document, Line, Reader


def _read(text: str) -> Document:
    return inf_syntax.read(text.encode("cp1252"))


def _fields(line: str) -> tuple[str, ...]:
    """The fields of the only line of a section."""
    (found,) = _read(f"[s]\r\n{line}\r\n").section("s") or ()
    return found.fields


@pytest.mark.parametrize(("data", "text"), [
    (b"[s]\nk=\xa9 \x80", "© €"),
    ("[s]\nk=©".encode("utf-8-sig"), "©"),
    (b"\xff\xfe" + "[s]\nk=\u30c9".encode("utf-16-le"), "\u30c9"),
    (b"\xfe\xff" + "[s]\nk=\u30c9".encode("utf-16-be"), "\u30c9"),
    ("[s]\nk=\u30c9".encode("utf-16-le"), "\u30c9"),
    (b"[s]\nk=a\x81", "a\ufffd"),
    (b"[s]\nk=a\x1a\0\0[t", "a"),
])
def test_encodings(data: bytes, text: str) -> None:
    assert inf_syntax.read(data).section("s") == (Line("k", (text,), 2),)


@pytest.mark.parametrize(("line", "fields"), [
    ("a,b,c", ("a", "b", "c")),
    (" a b , ,c ; said", ("a b", "", "c")),
    ("viostor.sys,,,2", ("viostor.sys", "", "", "2")),
    ('HKR, "a;b,c=d", " e "', ("HKR", "a;b,c=d", " e ")),
    ('"say ""hi"""', ('say "hi"',)),
    ('""""', ('"',)),
    ('"not closed, ; at all', ("not closed, ; at all",)),
    ('"a"b "c"', ("ab c",)),
    (r"%12%\viostor.sys", (r"%12%\viostor.sys",)),
    ("HKR,,x,,a=b", ("HKR", "", "x", "", "a=b")),
    ("a, \\\r\n  b, \\ ; said\r\n\tc", ("a", "b", "c")),
    ("one \\\r\n   two", ("one two",)),
    ('"folder\\"\\\r\n,file', ("folder\\", "file")),
    ('"quoted\\"', ("quoted\\",)),
    ("a,\\\r\n[b]", ("a", "[b]")),
])
def test_fields(line: str, fields: tuple[str, ...]) -> None:
    assert _fields(line) == fields


def test_keys() -> None:
    lines = _read('[s]\n%RHAT% %QXL% = a, b=c\n"x=y" = 1 ; what\nTx = "Tx Enabled";\nempty =\n'
                  ).section("s") or ()
    assert [(line.key, line.fields) for line in lines] == [
        ("%RHAT% %QXL%", ("a", "b=c")), ("x=y", ("1",)), ("Tx", ("Tx Enabled",)), ("empty", ("",))]


def test_line_numbers() -> None:
    lines = _read("; said\r\n[s]\r\n\r\na, \\\r\nb\rc\n\nd").section("s") or ()
    assert [(line.field(0), line.number) for line in lines] == [("a", 4), ("c", 6), ("d", 8)]


def test_sections_of_one_name_are_one() -> None:
    document = _read("[One] ; said\na\n[two]\nb\n[ ONE ]\nc\n[empty]\n")
    assert [line.field(0) for line in document.section("oNe") or ()] == ["a", "c"]
    assert document.section("empty") == ()
    assert document.section("three") is None


@pytest.mark.parametrize("text", ["before = 1\n[s]", "[s\na=b", "\0[s]"])
def test_what_is_no_inf(text: str) -> None:
    with pytest.raises(BadInf) as caught:
        _read(text)
    assert caught.value.hint


def test_strings_of_no_language_go_first() -> None:
    document = _read('[Strings.0407]\na="deutsch"\nb="zwei"\nc="drei"\n[Strings.0409]\nb="two"\n'
                     '[Strings]\nA="neutral"\na=later\n')
    assert document.strings == {"a": "neutral", "b": "two", "c": "drei"}


@pytest.mark.parametrize(("text", "expanded"), [
    ("%a%", "one"), ("x%A%y%b%", "xoney%a%"), ("%%SystemRoot%%\\x", "%SystemRoot%\\x"),
    ("%unknown%", "%unknown%"), ("100%", "100%"), ("%a% 100%", "one 100%"), ("%%", "%"),
    ("%12%\\x.sys", "%SystemRoot%\\System32\\drivers\\x.sys"),
    ("%11%\\x.dll", "%SystemRoot%\\System32\\x.dll"), ("%10%", "%SystemRoot%"),
    ("%13%\\x.sys", "%13%\\x.sys"), ("%24%\\x", "%SystemDrive%\\x"), ("%99%", "%99%")])
def test_expansion(text: str, expanded: str) -> None:
    assert _read("[Strings]\na=one\nb=%a%\n").expand(text) == expanded


def test_strings_cannot_loop() -> None:
    document = _read("[Strings]\na=%b%\nb=%a%\n")
    assert document.expand("%a%") == "%b%"


@pytest.mark.parametrize("text", ["x" * (FIELD_LIMIT + 1), "%a%" * 1000, "%a%%long%",
                                  "%long%" * 2, "%a%" * 1_000_000])
def test_what_gets_too_long(text: str) -> None:
    document = _read(f"[Strings]\na=12345\nlong={'x' * FIELD_LIMIT}\n")
    assert len(document.expand("%long%")) == FIELD_LIMIT
    with pytest.raises(BadInf, match="longer"):
        document.expand(text)


@pytest.mark.parametrize("data", [
    b"[s]\n" + b"a\n" * 60_001, b"".join(b"[%d]\n" % n for n in range(10_001)),
    b"[s]\n" + b"a" * INF_LIMIT])
def test_limits(data: bytes) -> None:
    with pytest.raises(BadInf, match="more than"):
        inf_syntax.read(data)


def test_a_reader_stops() -> None:
    reader = Reader(_read("[s]\na\n"))
    with pytest.raises(BadInf, match="too much"):
        [reader.section("s") for _ in range(10_000_000)]


@pytest.mark.parametrize(("text", "value"), [
    ("7", 7), ("0x10", 16), ("0X0000000a", 10), (" 010 ", 10), ("-1", -1),
    ("0xFFFFFFFF", 2**32 - 1)])
def test_numbers(text: str, value: int) -> None:
    assert inf_syntax.number(text) == value


@pytest.mark.parametrize("text", ["", "x", "1x", "0x", "- 1", "1.0", "٣", "1" * 41])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(BadInf, match="number"):
        inf_syntax.number(text)


@pytest.mark.parametrize("text", ["-1", "4294967296"])
def test_numbers_that_the_registry_cannot_hold(text: str) -> None:
    with pytest.raises(BadInf, match="number up to 4294967295"):
        inf_syntax.unsigned(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a\\b", "c:", "a\nb", "x" * 256])
def test_what_is_no_name_of_a_file(text: str) -> None:
    with pytest.raises(BadInf, match="no name of a file"):
        inf_syntax.file_name(text)


#: Any text of a line.
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\x1a"),
                max_size=40)


@given(st.lists(_TEXT, min_size=1, max_size=6))
def test_what_is_quoted_comes_back(fields: list[str]) -> None:
    line = "k = " + " , ".join('"' + text.replace('"', '""') + '"' for text in fields)
    document = inf_syntax.read(f"[s]\n{line} ; said".encode("utf-8-sig"))
    assert document.section("s") == (Line("k", tuple(fields), 2),)


@given(_TEXT)
def test_what_is_escaped_comes_back(text: str) -> None:
    assert _read("[Strings]\na=b").expand(text.replace("%", "%%")) == text


@settings(max_examples=200)
@given(st.text(st.sampled_from('[]"%\\;,= \r\na1'), max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadInf):
        document = inf_syntax.read(text.encode("utf-8-sig"))
        assert all(line.fields for lines in document.sections.values() for line in lines)
