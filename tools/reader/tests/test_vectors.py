"""Every vector that another program sealed: it opens, or fails in the class that section 9 names."""

from __future__ import annotations

import unittest
from pathlib import Path

from .support import ReaderTest
from . import writer

from backup_format.age import identities, open_envelope
from backup_format.cid import Cid
from backup_format.errors import FormatError
from backup_format.root import Object, Snapshot, open_root, parse_root
from backup_format.tree import Child, open_chunk, open_node

VECTORS = Path(__file__).resolve().parents[3] / "testdata" / "vectors" / "format-v1"
CLASS_OF_WORDS = (
    ("is not the root of a snapshot", "NotARoot"),
    ("has format version", "NewerVersion"),
    ("a power of two from", "Geometry"),
    ("size and link of object", "Object"),
    ("the root is malformed", "Malformed"),
    ("the block is not a node", "Malformed"),
    ("cannot name a disk or blob", "Name"),
    ("is not an age file", "EnvelopeMalformed"),
    ("not sealed to this identity", "WrongIdentity"),
    ("the read key does not open it", "WrongKey"),
    ("is unknown", "UnknownCodec"),
    ("bytes where", "Length"),
    ("the compressed bytes are malformed", "Decompress"),
    ("do not fit its links", "Inconsistent"),
)


class Vector:
    """One case: its values by name, of which a name may have several."""

    def __init__(self, path: Path):
        self.name = path.stem
        self.values: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            self.values.setdefault(name, []).append(value.strip())

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str:
        (value,) = self.values[name]
        return value

    def bytes(self, name: str) -> bytes:
        return bytes.fromhex(self.text(name))

    @property
    def verdict(self) -> str:
        """`ok`, or a class."""
        expected = self.text("expect")
        found = [name for words, name in CLASS_OF_WORDS if words in expected]
        return "ok" if expected == "ok" else found[0]


class Vectors(ReaderTest):
    def test_each_gives_what_it_expects(self) -> None:
        opened = 0
        for path in sorted(VECTORS.glob("*.txt")):
            vector = Vector(path)
            with self.subTest(vector.name):
                self.assertEqual(self.outcome(vector), vector.verdict)
                opened += 1
        self.assertGreaterEqual(opened, 57)

    def outcome(self, vector: Vector) -> str:
        if "cid" in vector:
            cid = Cid.from_text(vector.text("cid"))
            self.assertEqual(str(cid), vector.text("cid"))
            self.assertTrue(cid.names(vector.bytes("block")))
        check = {"chunk": self.chunk, "node": self.node, "root": self.root}[vector.text("kind")]
        try:
            check(vector)
        except FormatError as error:
            return error.name
        return "ok"

    def chunk(self, vector: Vector) -> None:
        plaintext = open_chunk(vector.bytes("block"), vector.bytes("read_key"), int(vector.text("len")))
        self.assertEqual(plaintext, vector.bytes("plaintext"))
        if "id" in vector:
            self.assertEqual(writer.plaintext_id(b"chunk", plaintext), vector.bytes("id"))
        if "k_siv" in vector:
            sealed = writer.seal(b"chunk", b"", writer.plain(plaintext))
            self.assertEqual(sealed, (vector.bytes("block"), vector.bytes("read_key")))

    def node(self, vector: Vector) -> None:
        fan_out = int(vector.text("fan_out"))
        children = open_node(vector.bytes("block"), vector.bytes("read_key"), fan_out)
        expected = []
        for line in vector.values.get("child", []):
            place, cid, key, plaintext_id = line.split()
            child = Child(int(place), Cid.from_text(cid), bytes.fromhex(key), bytes.fromhex(plaintext_id))
            expected.append(child)
        self.assertEqual(children, expected)
        if "k_siv" not in vector:
            return
        again = writer.ObjectWriter(writer.Blocks(), writer.Geometry(4096, fan_out)).gather(
            {child.place: {"tree": child.cid, "key": child.key, "id": child.plaintext_id} for child in children}
        )
        self.assertEqual(again["tree"], writer.cid_of(vector.bytes("block"), writer.DAG_CBOR))
        self.assertEqual((again["key"], again["id"]), (vector.bytes("read_key"), vector.bytes("id")))

    def root(self, vector: Vector) -> None:
        root = parse_root(vector.bytes("block"))
        if "read_key" in vector:
            read_key = vector.bytes("read_key")
        else:
            read_key = open_envelope(root.envelope, identities(vector.text("identity").encode()))
        snapshot = open_root(root, read_key)
        self.assertEqual(described(snapshot), vector.text("root"))


def described(snapshot: Snapshot) -> str:
    """The opened root on one line, as the vectors write it; what no reader keeps is left out."""
    root = snapshot.root
    parts = [
        f"genesis={root.genesis.hex()}",
        f"node={root.node.hex()}",
        f"request={root.request.hex()}",
        f"sequence={root.sequence}",
        f"taken_at_ms={snapshot.taken_at_ms}",
        f"consistency={snapshot.consistency}",
        f"chunk_bytes={root.geometry.chunk_bytes}",
        f"fan_out={root.geometry.fan_out}",
    ]
    return " ".join(parts + [object_described(one) for one in snapshot.disks + snapshot.blobs])


def object_described(one: Object) -> str:
    tree = f",{one.tree},{one.key.hex()},{one.plaintext_id.hex()}" if one.tree is not None else ""
    return f"{one.kind}={one.name},{one.size}{tree}"


if __name__ == "__main__":
    unittest.main()
