"""Strict dag-cbor: the encoding of roots, nodes and headers, section 1.

Only what these blocks hold is known: integers, byte strings, text, arrays, maps and links. A value
has one encoding; every other one is refused. What a length claims is never allocated before it is
known to be there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cid import CID_BYTES, Cid
from .errors import FormatError, ensure

DEPTH_MAX = 32
UINT, BYTES, TEXT, ARRAY, MAP, TAG = 0, 2, 3, 4, 5, 6
LINK_TAG = 42


def decode(block: bytes, link: Callable[[bytes], Any] = Cid.from_bytes) -> Any:
    """The value of a block. `link` makes a value of the bytes of a CID."""
    decoder = Decoder(block, link)
    value = decoder.value(DEPTH_MAX)
    ensure(decoder.at == len(block), "Malformed", f"Trailing bytes at byte {decoder.at}")
    return value


class Decoder:
    """Reads one item after the other."""

    def __init__(self, block: bytes, link: Callable[[bytes], Any] = Cid.from_bytes):
        self.block = block
        self.link = link
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        ensure(end <= len(self.block), "Malformed", f"Truncated at byte {len(self.block)}")
        taken, self.at = self.block[self.at : end], end
        return taken

    def head(self) -> tuple[int, int]:
        """Major type and argument of the next item, the argument in its shortest form."""
        start = self.at
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info
        ensure(info != 31, "Malformed", f"NotCanonical, an indefinite length at byte {start}")
        ensure(info <= 27, "Malformed", f"Unexpected byte {first:02x} at byte {start}")
        width = 1 << (info - 24)
        argument = int.from_bytes(self.take(width), "big")
        least = 24 if width == 1 else 1 << (4 * width)
        ensure(argument >= least, "Malformed", f"NotCanonical, a long integer at byte {start}")
        return major, argument

    def value(self, depth: int) -> Any:
        ensure(depth > 0, "Malformed", f"TooDeep at byte {self.at}")
        start = self.at
        major, argument = self.head()
        if major == UINT:
            return argument
        if major == BYTES:
            return self.take(argument)
        if major == TEXT:
            return self.text(argument)
        if major == ARRAY:
            return [self.value(depth - 1) for _ in range(argument)]
        if major == MAP:
            return self.map(argument, depth)
        if major == TAG and argument == LINK_TAG:
            return self.cid()
        raise FormatError("Malformed", f"Unexpected type at byte {start}")

    def text(self, count: int) -> str:
        start = self.at
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("Malformed", f"Unexpected bytes in text at byte {start}") from None

    def map(self, count: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        last = None
        for _ in range(count):
            start = self.at
            major, length = self.head()
            ensure(major == TEXT, "Malformed", f"Unexpected type of key at byte {start}")
            key = self.text(length)
            ensure(last is None or _order(last) < _order(key), "Malformed", f"NotCanonical keys at byte {start}")
            result[key] = self.value(depth - 1)
            last = key
        return result

    def cid(self) -> Any:
        start = self.at
        major, count = self.head()
        ensure(major == BYTES, "Malformed", f"Unexpected link at byte {start}")
        raw = self.take(count)
        ensure(raw[:1] == b"\0", "Malformed", f"Unexpected link without its zero at byte {start}")
        return self.link(raw[1:])


def encode(value: Any) -> bytes:
    """The one encoding of a value of the types above."""
    if type(value) is int:
        return _head(UINT, value)
    if type(value) is bytes:
        return _head(BYTES, len(value)) + value
    if type(value) is str:
        encoded = value.encode()
        return _head(TEXT, len(encoded)) + encoded
    if type(value) is list:
        return _head(ARRAY, len(value)) + b"".join(map(encode, value))
    if type(value) is dict:
        entries = (encode(key) + encode(value[key]) for key in sorted(value, key=_order))
        return _head(MAP, len(value)) + b"".join(entries)
    assert type(value) is Cid, f"no encoding of {type(value)}"
    return _head(TAG, LINK_TAG) + _head(BYTES, CID_BYTES + 1) + b"\0" + value


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * width:
            return bytes([major << 5 | info]) + argument.to_bytes(width, "big")
    raise OverflowError("integers end below 2^64")


def _order(key: str) -> tuple[int, bytes]:
    encoded = key.encode()
    return len(encoded), encoded


# What the tables of section 3 say of a value. Each function gives the value back, or refuses it.


def fields(value: Any, **kinds: Callable[[Any], Any]) -> dict[str, Any]:
    """The values of a map that has exactly these keys, each checked."""
    ensure(type(value) is dict, "Malformed", "Unexpected type where a map belongs")
    ensure(set(value) == set(kinds), "Malformed", "Unexpected or missing key in a map")
    result = {}
    for key, kind in kinds.items():
        try:
            result[key] = kind(value[key])
        except FormatError as error:
            error.detail = error.detail.replace("here", f"at {key!r}")
            raise
    return result


def integer(value: Any) -> int:
    ensure(type(value) is int, "Malformed", "Unexpected type here")
    return value


def text(value: Any) -> str:
    ensure(type(value) is str, "Malformed", "Unexpected type here")
    return value


def exactly(expected: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        ensure(type(value) is type(expected) and value == expected, "Malformed", "Unexpected value here")
        return value

    return check


def octets(least: int, most: int) -> Callable[[Any], bytes]:
    def check(value: Any) -> bytes:
        ensure(type(value) is bytes, "Malformed", "Unexpected type here")
        ensure(least <= len(value) <= most, "Malformed", "Unexpected length here")
        return value

    return check


def link(value: Any) -> Cid:
    ensure(type(value) is Cid, "Malformed", "Unexpected type here")
    return value


def array(kind: Callable[[Any], Any], most: int) -> Callable[[Any], list]:
    def check(value: Any) -> list:
        ensure(type(value) is list, "Malformed", "Unexpected type here")
        ensure(len(value) <= most, "Malformed", "Unexpected length here")
        return [kind(one) for one in value]

    return check
