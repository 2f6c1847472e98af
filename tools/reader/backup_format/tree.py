"""Sections 3.3, 3.4 and 6.2: walking an object's tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .cid import Cid
from .dag_cbor import array, decode, exactly, fields, link, octets
from .errors import ensure, shown, within
from .root import FORMAT_VERSION, PLAINTEXT_ID_BYTES, Geometry, Object
from .sealing import KEY_BYTES, open_sealed
from .source import Source

FAN_OUT_MAX = 256
SEALED_BYTES_MAX = 12_384
CHILD_SECRET_BYTES = KEY_BYTES + PLAINTEXT_ID_BYTES


@dataclass(frozen=True)
class Child:
    """One child of a node. The plaintext id is of use to writers alone."""

    place: int
    cid: Cid
    key: bytes
    plaintext_id: bytes


@dataclass(frozen=True)
class Pending:
    """A block still to be read: where it stands in the tree, and what opens it."""

    level: int
    index: int
    cid: Cid
    key: bytes


def open_chunk(block: bytes, read_key: bytes, size: int) -> bytes:
    """The plaintext of a chunk, of exactly `size` bytes."""
    plaintext = open_sealed(read_key, b"", block, size)
    ensure(len(plaintext) == size, "Length", f"{len(plaintext)} bytes where {size} belong")
    return plaintext


def open_node(block: bytes, read_key: bytes, fan_out: int) -> list[Child]:
    """The children of a node, in the order of their places."""
    found = fields(
        decode(block),
        v=exactly(FORMAT_VERSION),
        kind=exactly("node"),
        links=array(link, FAN_OUT_MAX),
        sealed=octets(0, SEALED_BYTES_MAX),
    )
    links = found["links"]
    bitmap_bytes = -(-fan_out // 8)
    most = bitmap_bytes + CHILD_SECRET_BYTES * fan_out
    secret = open_sealed(read_key, b"".join(links), found["sealed"], most)
    fits = len(secret) == bitmap_bytes + CHILD_SECRET_BYTES * len(links)
    ensure(fits, "Inconsistent", f"{len(links)} links and {len(secret)} bytes of secrets")
    places = _set_bits(secret[:bitmap_bytes])
    fits = len(places) == len(links) and all(place < fan_out for place in places)
    ensure(fits, "Inconsistent", f"{len(links)} links and {len(places)} places")
    children = []
    for number, (place, cid) in enumerate(zip(places, links)):
        at = bitmap_bytes + number * CHILD_SECRET_BYTES
        key, plaintext_id = secret[at : at + KEY_BYTES], secret[at + KEY_BYTES : at + CHILD_SECRET_BYTES]
        children.append(Child(place, cid, key, plaintext_id))
    return children


def _set_bits(bitmap: bytes) -> list[int]:
    return [place for place in range(8 * len(bitmap)) if bitmap[place // 8] >> (place % 8) & 1]


def chunks(one: Object, geometry: Geometry, source: Source) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each chunk that is stored; all else is zero.

    Offsets ascend. One block is held at a time, and of each level the siblings still to be read.
    """
    if one.tree is None or one.key is None:
        return
    pending = [Pending(geometry.levels(one.size), 0, one.tree, one.key)]
    while pending:
        top = pending.pop()
        start, end = geometry.covered(top.level, top.index, one.size)
        with within(f"block {top.cid}, offset {start} of {one.kind} {shown(one.name)}"):
            block = source.fetch(top.cid)
            if top.level == 0:
                plaintext = open_chunk(block, top.key, end - start)
            else:
                children = open_node(block, top.key, geometry.fan_out)
                pending += reversed(_below(top, children, one.size, geometry))
                continue
        yield start, plaintext


def _below(parent: Pending, children: list[Child], size: int, geometry: Geometry) -> list[Pending]:
    """The children of a node, each in its place: within the object, and of the kind of its level."""
    level = parent.level - 1
    result = []
    for child in children:
        index = parent.index * geometry.fan_out + child.place
        start, end = geometry.covered(level, index, size)
        ensure(start < end, "Inconsistent", f"place {child.place} lies beyond the end")
        ensure(child.cid.is_raw == (level == 0), "Inconsistent", f"place {child.place} links to another kind")
        result.append(Pending(level, index, child.cid, child.key))
    return result
