"""Sections 3.1, 3.2 and 3.5: what a root says in clear, and what its header adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .age import ENVELOPE_BYTES_MAX
from .cid import Cid
from .dag_cbor import MAP, UINT, Decoder, array, decode, encode, exactly, fields, integer, link, octets, text
from .errors import FormatError, ensure, shown
from .sealing import KEY_BYTES, open_sealed

FORMAT_VERSION = 1
ROOT_BYTES_MAX = 64 * 1024
ROOT_ENTRIES_MAX = 1024
HEADER_BYTES_MAX = 32 * 1024
OBJECTS_MAX = 64
ID_BYTES_MAX = 64
NAME_BYTES_MAX = 128
PLAINTEXT_ID_BYTES = 16
V = encode("v")
KIND_ROOT = encode("kind") + encode("root")
CONSISTENCIES = ("application", "crash", "stopped")


@dataclass(frozen=True)
class Geometry:
    """How objects are cut into chunks, and chunks gathered under nodes."""

    chunk_bytes: int
    fan_out: int

    def levels(self, size: int) -> int:
        """The levels of nodes above an object's chunks; none above one chunk."""
        rest, levels = -(-size // self.chunk_bytes), 0
        while rest > 1:
            rest, levels = -(-rest // self.fan_out), levels + 1
        return levels

    def covered(self, level: int, index: int, size: int) -> tuple[int, int]:
        """First byte and end of what the place covers; the same if it lies beyond the object."""
        span = self.fan_out**level * self.chunk_bytes
        return min(index * span, size), min((index + 1) * span, size)


@dataclass(frozen=True)
class Head:
    """What the clear part says of an object. Without a tree all its bytes are zero."""

    size: int
    tree: Cid | None


@dataclass(frozen=True)
class Root:
    """The clear part of a root, and what is needed to open the rest."""

    node: bytes
    request: bytes
    genesis: bytes
    sequence: int
    geometry: Geometry
    disks: list[Head]
    blobs: list[Head]
    envelope: bytes
    sealed: bytes
    additional_data: bytes


@dataclass(frozen=True)
class Object:
    """A disk or blob: its name and size, and unless all of it is zero the top of its tree."""

    kind: str
    name: str
    size: int
    tree: Cid | None
    key: bytes | None
    plaintext_id: bytes | None


@dataclass(frozen=True)
class Snapshot:
    """An opened root."""

    root: Root
    consistency: str
    taken_at_ms: int
    disks: list[Object]
    blobs: list[Object]


def parse_root(block: bytes) -> Root:
    """The clear part of a root block."""
    version = _version_of(block)
    ensure(version <= FORMAT_VERSION, "NewerVersion", f"{version}; this reader knows {FORMAT_VERSION}")
    heads = array(_raw_head, OBJECTS_MAX)
    value = decode(block)
    found = fields(
        value,
        v=exactly(FORMAT_VERSION),
        kind=exactly("root"),
        node=octets(0, ID_BYTES_MAX),
        salt=octets(32, 32),
        blobs=heads,
        disks=heads,
        sealed=octets(0, HEADER_BYTES_MAX),
        fan_out=integer,
        genesis=octets(32, 32),
        request=octets(0, ID_BYTES_MAX),
        envelope=octets(0, ENVELOPE_BYTES_MAX),
        sequence=integer,
        chunk_bytes=integer,
    )
    geometry = _geometry(found["chunk_bytes"], found["fan_out"])
    return Root(
        node=found["node"],
        request=found["request"],
        genesis=found["genesis"],
        sequence=found["sequence"],
        geometry=geometry,
        disks=[_head(f"disk {number}", raw, geometry) for number, raw in enumerate(found["disks"])],
        blobs=[_head(f"blob {number}", raw, geometry) for number, raw in enumerate(found["blobs"])],
        envelope=found["envelope"],
        sealed=found["sealed"],
        additional_data=_additional_data(value),
    )


def _version_of(block: bytes) -> int:
    """The version that a root's first bytes state. They alone tell a later root from damage."""
    ensure(len(block) <= ROOT_BYTES_MAX, "NotARoot", f"it is longer than {ROOT_BYTES_MAX} bytes")
    decoder = Decoder(block)
    try:
        major, entries = decoder.head()
        ensure(major == MAP and entries <= ROOT_ENTRIES_MAX, "NotARoot")
        ensure(decoder.take(len(V)) == V, "NotARoot")
        major, version = decoder.head()
        ensure(major == UINT, "NotARoot")
        ensure(decoder.take(len(KIND_ROOT)) == KIND_ROOT, "NotARoot")
    except FormatError:
        raise FormatError("NotARoot") from None
    return version


def _geometry(chunk_bytes: int, fan_out: int) -> Geometry:
    for value, least, most in ((chunk_bytes, 4096, 1 << 20), (fan_out, 2, 256)):
        sound = least <= value <= most and value & (value - 1) == 0
        ensure(sound, "Geometry", f"{value} is no power of two from {least} to {most}")
    return Geometry(chunk_bytes, fan_out)


def _raw_head(value: Any) -> dict[str, Any]:
    if type(value) is dict and "tree" in value:
        return fields(value, bytes=integer, tree=link)
    return fields(value, bytes=integer)


def _head(place: str, raw: dict[str, Any], geometry: Geometry) -> Head:
    size, tree = raw["bytes"], raw.get("tree")
    if tree is not None:
        ensure(size > 0 and tree.is_raw == (geometry.levels(size) == 0), "Object", place)
    return Head(size, tree)


def _additional_data(value: dict[str, Any]) -> bytes:
    return encode({key: value[key] for key in value if key not in ("sealed", "envelope")})


def open_root(root: Root, read_key: bytes) -> Snapshot:
    """The root with its header, which is sealed together with all of the clear part."""
    header = open_sealed(read_key, root.additional_data, root.sealed, HEADER_BYTES_MAX)
    secrets = array(_secret, OBJECTS_MAX)
    found = fields(decode(header), blobs=secrets, disks=secrets, consistency=integer, taken_at_ms=integer)
    ensure(found["consistency"] < len(CONSISTENCIES), "Inconsistent", "an unknown consistency")
    return Snapshot(
        root=root,
        consistency=CONSISTENCIES[found["consistency"]],
        taken_at_ms=found["taken_at_ms"],
        disks=_objects("disk", root.disks, found["disks"]),
        blobs=_objects("blob", root.blobs, found["blobs"]),
    )


def _secret(value: Any) -> dict[str, Any]:
    if type(value) is dict and "key" in value:
        plaintext_id, key = octets(PLAINTEXT_ID_BYTES, PLAINTEXT_ID_BYTES), octets(KEY_BYTES, KEY_BYTES)
        return fields(value, id=plaintext_id, key=key, name=text)
    return fields(value, name=text)


def _objects(kind: str, heads: list[Head], secrets: list[dict[str, Any]]) -> list[Object]:
    ensure(len(heads) == len(secrets), "Inconsistent", f"{len(heads)} {kind}s have {len(secrets)} names")
    objects = []
    for head, secret in zip(heads, secrets):
        ensure((head.tree is not None) == ("key" in secret), "Inconsistent", f"a {kind}'s link and key")
        name, key, plaintext_id = _name(secret["name"]), secret.get("key"), secret.get("id")
        objects.append(Object(kind, name, head.size, head.tree, key, plaintext_id))
    names = [one.name for one in objects]
    for name in names:
        ensure(names.count(name) == 1, "Name", f'"{shown(name)}" is used twice')
    return objects


def _name(name: str) -> str:
    """A plain file name. It is checked before anything is made of it."""
    plain = 1 <= len(name.encode()) <= NAME_BYTES_MAX and name not in (".", "..") and "/" not in name
    control = any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in name)
    ensure(plain and not control, "Name", f'"{shown(name[:NAME_BYTES_MAX])}"')
    return name
