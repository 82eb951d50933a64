"""Damaged files as Hypothesis strategies: valid ones that are cut, flipped, doubled, nested or written differently.

A recipe is a short list of edits that can be made to any bytes, so that one draw damages every file of a test.
"""

import re
from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

# What readers trip over, each as the bytes of a file.
_TOKENS = (
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # half of a pair of surrogates
    b"\\ud800",
    b"\\u0000",
    "٣".encode(),
    "²".encode(),
    "\u2028".encode(),
    "\x85".encode(),
    b"\r\n",
    b"\r",
    b"\n\n",
    b'"',
    b"'",
    b"\\",
    b"''",
    b'""',
    b",",
    b";",
    b":",
    b": ",
    b"=",
    b"- ",
    b"? ",
    b"#",
    b"|",
    b"\t",
    b"[",
    b"]",
    b"{",
    b"}",
    b"[]",
    b"{}",
    b"[[]]",
    b"[{}]",
    b"[1, 2]",
    b'["a"]',
    b'{"a": 1}',
    b"{ a = 1 }",
    b"null",
    b"true",
    b"false",
    b"NaN",
    b"nan",
    b"inf",
    b"-Infinity",
    b"-1",
    b"0",
    b"1",
    b"2",
    b"0.5",
    b"1e999",
    b"1e-400",
    b"-0.0",
    b"00",
    b"1_000",
    b"9" * 25,
    b"9" * 400,
    b"9" * 5000,
    b"0x" + b"f" * 400,
    b"0x" + b"f" * 5000,
    b"0x_",
    b"0b",
    b"1:59:00",
    b"9" * 400 + b":59.5",
    b"1979-05-27",
    b"2001-99-99",
    b"07:32:00",
    b"1979-05-27T07:32:00Z",
    b"&a ",
    b"*a",
    b"&a [*a]",
    b"<<: *a",
    b"<<: {a: 1}",
    b"!!map ",
    b"!!set ",
    b"!!omap ",
    b"!!pairs ",
    b"!!int ",
    b"!!float ",
    b"!!bool ",
    b"!!timestamp ",
    b"!!binary ",
    b"!!null ",
    b"!!str ",
    b"!!python/object/apply:os.getpid []",
    b"!x ",
    b"%YAML 9.9\n---\n",
    b"---\n",
    b"...\n",
    b"x" * 200,
)
_NESTED = (b"[", b"{", b'{"a":', b"- ", b"(", b'[{"role":')
_WORD = re.compile(rb"\"[^\"\n]*\"|[\w.+-]+")
_PLACES = 2**16


def recipes(max_size: int = 3):
    """Lists of edits for `damage`."""
    place = st.integers(0, _PLACES - 1)
    token = st.sampled_from(_TOKENS) | st.binary(max_size=6)
    return st.lists(st.tuples(st.sampled_from(tuple(_EDITS)), place, place, token), min_size=1, max_size=max_size)


def damage(content: bytes, recipe: list[tuple[str, int, int, bytes]]) -> bytes:
    """Return a file with each edit of a recipe made in turn."""
    for kind, first, second, token in recipe:
        content = _EDITS[kind](content, first, second, token)
    return content


def damaged(contents: Iterable[bytes], recipe: list[tuple[str, int, int, bytes]], places: int = 1) -> Iterator[bytes]:
    """Yield each file damaged by a recipe: as it says, and with its edits made at other places."""
    for content in contents:
        for i in range(places):
            yield damage(
                content, [(kind, first + 7919 * i, second + i, token) for kind, first, second, token in recipe]
            )


def _insert(content: bytes, first: int, second: int, token: bytes) -> bytes:
    place = first % (len(content) + 1)
    return content[:place] + token + content[place:]


def _replace_word(content: bytes, first: int, second: int, token: bytes) -> bytes:
    words = list(_WORD.finditer(content))
    if not words:
        return token
    word = words[first % len(words)]
    return content[: word.start()] + token + content[word.end() :]


def _swap_words(content: bytes, first: int, second: int, token: bytes) -> bytes:
    words = list(_WORD.finditer(content))
    if not words:
        return token
    one, two = words[first % len(words)], words[second % len(words)]
    return content[: one.start()] + two[0] + content[one.end() :]


def _delete(content: bytes, first: int, second: int, token: bytes) -> bytes:
    place = first % (len(content) + 1)
    return content[:place] + content[place + 1 + second % 12 :]


def _cut(content: bytes, first: int, second: int, token: bytes) -> bytes:
    return content[: first % (len(content) + 1)]


def _flip(content: bytes, first: int, second: int, token: bytes) -> bytes:
    if not content:
        return token
    place = first % len(content)
    return content[:place] + bytes([content[place] ^ 1 << second % 8]) + content[place + 1 :]


def _line(change):
    """Return an edit of one line of a file."""

    def edit(content: bytes, first: int, second: int, token: bytes) -> bytes:
        lines = content.split(b"\n")
        place = first % len(lines)
        lines[place : place + 1] = change(lines, place, second, token)
        return b"\n".join(lines)

    return edit


def _nest(content: bytes, first: int, second: int, token: bytes) -> bytes:
    """Put something very deep in place of a word."""
    depth = (50, 500, 990, 3000)[second % 4]
    return _replace_word(content, first, second, _NESTED[second // 4 % len(_NESTED)] * depth)


def _nest_whole(content: bytes, first: int, second: int, token: bytes) -> bytes:
    """Put a list of lists, closed, in place of a word."""
    depth = (50, 150, 320, 480, 700, 990)[second % 6]
    return _replace_word(content, first, second, b"[" * depth + b"]" * depth)


def _recode(content: bytes, first: int, second: int, token: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(("utf-16", "utf-32", "utf-8-sig", "utf-16-be", "cp500")[first % 5], "replace")


_EDITS = {
    "insert": _insert,
    "replace a word": _replace_word,
    "swap words": _swap_words,
    "delete": _delete,
    "cut": _cut,
    "flip": _flip,
    "double a line": _line(lambda lines, place, second, token: [lines[place]] * 2),
    "drop a line": _line(lambda lines, place, second, token: []),
    "move a line": _line(lambda lines, place, second, token: [lines[second % len(lines)], lines[place]]),
    "replace a line": _line(lambda lines, place, second, token: [token]),
    "nest": _nest,
    "nest whole": _nest_whole,
    "double all": lambda content, first, second, token: content + content,
    "carriage returns": lambda content, first, second, token: content.replace(b"\n", b"\r\n" if first % 2 else b"\r"),
    "recode": _recode,
    "replace all": lambda content, first, second, token: token,
}


def survives(read, *arguments, errors=(ValueError, OSError)):
    """Return what a reader gives, or None where it refuses by one of the documented errors, on one line.

    The error must be one of ours, which states a rule: the classes of libraries, such as that of json, do not.
    """
    try:
        return read(*arguments)
    except Exception as error:
        if type(error) not in (*errors, *_SYSTEM):
            raise
        message = str(error)
        assert message.strip(), "the error must state a rule"
        assert "\n" not in message, f"the error must be one line, got {message!r}"
    return None


_SYSTEM = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
