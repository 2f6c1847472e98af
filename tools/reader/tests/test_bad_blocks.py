"""Blocks of a dishonest writer: everything fits but one thing. Each fails by name, and leaves nothing.

The writer has all keys, so hashes and seals are right; only the reader's own checks stand in the way.
"""

from __future__ import annotations

import struct
import unittest
from typing import Any

import cbor2
import zstandard

from .support import ReaderTest
from . import writer

WRONG_TYPES = (-1, "1", b"1", [], {}, 1.0, True, None, 1 << 64)
FOREIGN_LINKS = (
    cbor2.CBORTag(42, b"\0" + bytes.fromhex("1220") + bytes(32)),
    cbor2.CBORTag(42, b"\0" + bytes.fromhex("01701220") + bytes(32)),
    cbor2.CBORTag(42, b"\0" + bytes.fromhex("01551340") + bytes(64)),
    cbor2.CBORTag(42, bytes.fromhex("01551220") + bytes(32)),
    cbor2.CBORTag(43, b"\0" + bytes.fromhex("01551220") + bytes(32)),
    b"\0" + bytes.fromhex("01551220") + bytes(32),
)
RAW_LINK = writer.link(writer.cid_of(b"", writer.RAW))
NODE_LINK = writer.link(writer.cid_of(b"", writer.DAG_CBOR))


def types_other_than(*kinds: type) -> list[Any]:
    """Values of every type but these; `int` stands for an integer of the format."""
    wrong = [value for value in WRONG_TYPES if type(value) not in kinds]
    return wrong + [-1, 1 << 64] if int in kinds else wrong


class BadBlocks(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.content = b"".join(bytes([number + 1]) * 4096 for number in range(5)) + b"."

    def assert_refused(self, name: str, exit_code: int = 7) -> None:
        """A snapshot of one disk, written as the writers are set now, fails in this class."""
        self.blocks.clear()
        disk = self.objects.write("vda", self.content)
        self.assert_root_refused(name, [disk], [], exit_code)

    def assert_root_refused(self, name: str, disks: list, blobs: list, exit_code: int = 7) -> None:
        root = self.roots.write(disks, blobs)
        self.assert_fails(name, exit_code, self.restore(self.car(root), "--root", root, "--disk", "vda"))

    def assert_clear_refused(self, name: str, key: str, value: Any, exit_code: int = 7) -> None:
        with self.subTest(key=key, value=repr(value)[:60]):
            self.roots.clear = lambda clear: {**clear, key: value}
            self.assert_refused(name, exit_code)

    def test_the_honest_one_is_restored(self) -> None:
        root = self.roots.write([self.objects.write("vda", self.content)], [])
        self.assert_restores(self.content, self.car(root), "--root", root, "--disk", "vda")


class BadRoots(BadBlocks):
    def test_version_and_kind(self) -> None:
        self.assert_clear_refused("Malformed", "v", 0)
        self.assert_clear_refused("NewerVersion", "v", 2)
        self.assert_clear_refused("NewerVersion", "v", (1 << 64) - 1)
        for value in types_other_than(int):
            self.assert_clear_refused("NotARoot", "v", value)
        for value in ("node", "roots", "Root", "", *types_other_than()):
            self.assert_clear_refused("NotARoot", "kind", value)

    def test_a_later_version_may_hold_anything_else(self) -> None:
        for block in (b"\xa2" + writer.dumps("v") + b"\x02dkinddroot", b"\xb9\x04\0\x61v\x18\x18dkinddroot\xff\xff"):
            self.roots.block = lambda _, block=block: block
            self.assert_refused("NewerVersion")

    def test_the_longest_root(self) -> None:
        beginning = b"\xa3\x61v\x02dkinddroot"
        for length, name in ((65_536, "NewerVersion"), (65_537, "NotARoot")):
            self.roots.block = lambda _, length=length: beginning + bytes(length - len(beginning))
            self.assert_refused(name)

    def test_byte_strings(self) -> None:
        bounds = {"node": (0, 64), "request": (0, 64), "salt": (32, 32), "genesis": (32, 32)}
        for key, (least, most) in bounds.items():
            lengths = [most + 1, *([least - 1] if least else [])]
            for value in [bytes(length) for length in lengths] + types_other_than(bytes):
                self.assert_clear_refused("Malformed", key, value)

    def test_sealed_and_envelope(self) -> None:
        for key, most in (("sealed", 32_768), ("envelope", 4096)):
            for value in [bytes(most + 1), *types_other_than(bytes)]:
                with self.subTest(key=key, value=repr(value)[:60]):
                    self.roots.envelope = lambda root: {**root, key: value}
                    self.assert_refused("Malformed")

    def test_sequence(self) -> None:
        for value in types_other_than(int):
            self.assert_clear_refused("Malformed", "sequence", value)

    def test_geometry(self) -> None:
        for value in (0, 1, 2048, 4095, 4097, 12_288, 2 << 20, 1 << 63, (1 << 64) - 1):
            self.assert_clear_refused("Geometry", "chunk_bytes", value)
        for value in (0, 1, 3, 6, 255, 257, 512, 1 << 63):
            self.assert_clear_refused("Geometry", "fan_out", value)
        for key in ("chunk_bytes", "fan_out"):
            for value in types_other_than(int):
                self.assert_clear_refused("Malformed", key, value)

    def test_object_heads(self) -> None:
        zero = {"bytes": 1}
        wrong = [*types_other_than(list), [zero] * 65, [[]], [1], [{}], [{"tree": RAW_LINK}], [{**zero, "x": 1}]]
        wrong += [[{"bytes": value}] for value in types_other_than(int)]
        wrong += [[{"bytes": 1, "tree": value}] for value in (*WRONG_TYPES, *FOREIGN_LINKS)]
        for key in ("disks", "blobs"):
            for value in wrong:
                self.assert_clear_refused("Malformed", key, value)
            for head in (
                {"bytes": 0, "tree": RAW_LINK},
                {"bytes": 0, "tree": NODE_LINK},
                {"bytes": 4096, "tree": NODE_LINK},
                {"bytes": 4097, "tree": RAW_LINK},
                {"bytes": (1 << 64) - 1, "tree": RAW_LINK},
            ):
                self.assert_clear_refused("Object", key, [head])

    def test_a_key_more_or_less(self) -> None:
        self.assert_clear_refused("Malformed", "zzzzz", 1)
        self.assert_clear_refused("NotARoot", "zzz", 1)  # It would stand before `kind`.
        keys = ["node", "salt", "blobs", "disks", "sealed", "fan_out", "genesis", "request", "envelope"]
        for key in [*keys, "sequence", "chunk_bytes"]:
            with self.subTest(key):
                self.roots.clear = self.roots.header = lambda value: value
                self.roots.envelope = lambda root: {one: root[one] for one in root if one != key}
                self.assert_refused("Malformed")
        for key in ("v", "kind"):
            with self.subTest(key):
                self.roots.envelope = lambda root: {one: root[one] for one in root if one != key}
                self.assert_refused("NotARoot")

    def test_bytes_of_the_block(self) -> None:
        changes = {
            "NotARoot": (
                lambda block: b"",
                lambda block: b"\xa0",
                lambda block: b"\x80",
                lambda block: b"\xff" * 40,
                lambda block: b"\xbf" + block[1:] + b"\xff",
                lambda block: b"\xb9\x04\x01" + block[1:],
                lambda block: block[:3] + b"\x18\x01" + block[4:],
                lambda block: block + bytes(65_537 - len(block)),
                lambda block: block[:13],
            ),
            "Malformed": (
                lambda block: block + b"\0",
                lambda block: block[:-1],
                lambda block: block[:14],
                lambda block: b"\xac" + block[1:],
                lambda block: b"\xae" + block[1:],
            ),
        }
        for name, wrong in changes.items():
            for number, change in enumerate(wrong):
                with self.subTest(name, number=number):
                    self.roots.block = change
                    self.assert_refused(name)

    def test_a_root_named_as_a_chunk(self) -> None:
        self.roots.codec = writer.RAW
        self.assert_refused("NotARoot")

    def test_any_byte_of_a_root_changed(self) -> None:
        """Who cannot seal can change nothing, not even in the clear part."""
        disk = self.objects.write("vda", b"content")
        blob = self.objects.write("machine.toml", b"")
        root = self.roots.write([disk], [blob])
        good = self.blocks.pop(root)
        for at in range(len(good)):
            changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
            cid = self.blocks.store(changed, writer.DAG_CBOR)
            outcome = self.restore(self.car(cid), "--root", cid)
            self.assertIn(outcome.exit_code, (6, 7), (at, outcome))
            self.assert_nothing_left()
            del self.blocks[cid]


class BadHeaders(BadBlocks):
    def assert_header_refused(self, name: str, change: writer.Change, exit_code: int = 7) -> None:
        self.roots.header = change
        self.assert_refused(name, exit_code)

    def test_fields(self) -> None:
        for key in ("consistency", "taken_at_ms"):
            for value in types_other_than(int):
                with self.subTest(key=key, value=value):
                    self.assert_header_refused("Malformed", lambda header: {**header, key: value})
        for value in (3, (1 << 64) - 1):
            self.assert_header_refused("Inconsistent", lambda header: {**header, "consistency": value})
        for key in ("disks", "blobs"):
            for value in [*types_other_than(list), [{"name": "x"}] * 65, [1]]:
                with self.subTest(key=key, value=repr(value)[:60]):
                    self.assert_header_refused("Malformed", lambda header: {**header, key: value})

    def test_a_key_more_or_less(self) -> None:
        self.assert_header_refused("Malformed", lambda header: {**header, "x": 1})
        for key in ("disks", "blobs", "consistency", "taken_at_ms"):
            self.assert_header_refused("Malformed", lambda header: {one: header[one] for one in header if one != key})

    def test_counts(self) -> None:
        more = {"name": "another"}
        self.assert_header_refused("Inconsistent", lambda header: {**header, "disks": []})
        self.assert_header_refused("Inconsistent", lambda header: {**header, "disks": [*header["disks"], more]})
        self.assert_header_refused("Inconsistent", lambda header: {**header, "blobs": [more]})

    def change_secret(self, **changes: Any) -> writer.Change:
        return lambda header: {**header, "disks": [{**header["disks"][0], **changes}]}

    def test_secrets(self) -> None:
        for key, length in (("id", 16), ("key", 32)):
            for value in [bytes(length - 1), bytes(length + 1), *types_other_than(bytes)]:
                with self.subTest(key=key, value=value):
                    self.assert_header_refused("Malformed", self.change_secret(**{key: value}))
        for value in types_other_than(str):
            self.assert_header_refused("Malformed", self.change_secret(name=value))
        self.assert_header_refused("Malformed", self.change_secret(x=1))
        self.assert_header_refused("Malformed", lambda header: {**header, "disks": [{}]})
        self.assert_header_refused("Malformed", lambda header: {**header, "disks": [{"name": "vda", "id": bytes(16)}]})
        self.assert_header_refused("WrongKey", self.change_secret(key=bytes(32)))

    def test_a_key_without_a_tree_and_a_tree_without_a_key(self) -> None:
        self.assert_header_refused("Inconsistent", lambda header: {**header, "disks": [{"name": "vda"}]})
        zero = self.objects.write("vda", bytes(10))
        self.roots.header = self.change_secret(key=bytes(32), id=bytes(16))
        self.assert_root_refused("Inconsistent", [zero], [])

    def test_names(self) -> None:
        wrong = ["", ".", "..", "/", "a/b", "../vda", "\0", "a\n", "\x1b[2J", "\x7f", "\x9b2J", "x" * 129, "ü" * 65]
        for name in wrong:
            with self.subTest(name):
                self.assert_header_refused("Name", self.change_secret(name=name))
        one = self.objects.write("vda", b"x")
        self.roots.header = lambda header: header
        self.assert_root_refused("Name", [one, one], [])
        self.assert_root_refused("Name", [one], [one, one])

    def test_the_longest_name(self) -> None:
        for name in ("ü" * 64, "x" * 128, "...", " "):
            root = self.roots.write([self.objects.write(name, b"x")], [])
            self.assert_restores(b"x", self.car(root), "--root", root)

    def test_sealing(self) -> None:
        self.assert_header_refused("Malformed", lambda header: b"")
        self.assert_header_refused("Malformed", lambda header: writer.dumps(header) + b"\0")
        self.assert_header_refused("Malformed", lambda header: b"\x9b" + b"\xff" * 8)
        self.roots.header = lambda header: header
        for name, payload in BAD_PAYLOADS.items():
            for change in payload:
                self.roots.header_payload = change
                self.assert_refused(name)
        self.roots.header_payload = lambda _: writer.compressed(bytes(32_769))
        self.assert_refused("Length")


def stating(size: int, plaintext: bytes) -> bytes:
    """A frame of this content that states another size."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(plaintext)
    window = frame[5]
    return frame[:4] + bytes([0xC0, window]) + struct.pack("<Q", size) + frame[6:]


def unstated(plaintext: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(plaintext)




MANY_ZEROS = bytes(1 << 24)
SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"skip"
# What no payload of any place may look like.
BAD_PAYLOADS = {
    "UnknownCodec": [lambda p: b"\2" + p, lambda p: b"\xff" + p],
    "Decompress": [
        lambda p: b"",
        lambda p: b"\1",
        lambda p: b"\1" + p[:3],
        lambda p: b"\1" + b"no frame",
        lambda p: writer.compressed(p)[:-1],
        lambda p: writer.compressed(p) + b"\0",
        lambda p: writer.compressed(p) + writer.compressed(p)[1:],
        lambda p: b"\1" + unstated(p),
        lambda p: b"\1" + unstated(MANY_ZEROS),
        lambda p: b"\1" + SKIPPABLE,
        lambda p: b"\1" + SKIPPABLE + writer.compressed(p)[1:],
        lambda p: b"\1" + stating(len(p), MANY_ZEROS),
        lambda p: b"\1" + stating(len(p), p[:-1]),
        lambda p: b"\1" + stating(len(p), p + p),
    ],
    "Length": [
        lambda p: writer.compressed(MANY_ZEROS),
        lambda p: b"\1" + stating(1 << 62, p),
        lambda p: b"\1" + stating((1 << 63) - 1, p),
    ],
}


class BadChunks(BadBlocks):
    def test_payloads(self) -> None:
        for name, payloads in BAD_PAYLOADS.items():
            for number, payload in enumerate(payloads):
                with self.subTest(name, number=number):
                    self.objects.payload = payload
                    self.assert_refused(name)

    def test_lengths(self) -> None:
        changes = [lambda p: p[:-1], lambda p: p + b"\0", lambda p: b"", lambda p: p + bytes(1 << 20)]
        for seal in (writer.plain, writer.compressed):
            for change in changes:
                self.objects.payload = lambda p: seal(change(p))
                self.assert_refused("Length")

    def test_a_dictionary(self) -> None:
        self.objects.payload = lambda p: b"\1" + dictionary_frame(p)
        self.assert_refused("Decompress")

    def test_a_block_shorter_than_its_tag(self) -> None:
        chunk = self.objects.chunk(b"x")
        disk = {"name": "vda", "bytes": 1, **chunk, "tree": self.blocks.store(bytes(15), writer.RAW)}
        self.assert_root_refused("WrongKey", [disk], [])

    def test_a_chunk_in_the_place_of_another(self) -> None:
        one, other = self.objects.chunk(b"1" * 4096), self.objects.chunk(b"2" * 4096)
        disk = {"name": "vda", "bytes": 8192, **self.objects.gather({0: one, 1: {**other, "tree": one["tree"]}})}
        self.assert_root_refused("WrongKey", [disk], [])


def dictionary_frame(plaintext: bytes) -> bytes:
    """A frame that names a dictionary: a header with its id, and a raw block."""
    block = struct.pack("<I", len(plaintext) << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd" + bytes([0xA1, 7]) + struct.pack("<I", len(plaintext)) + block + plaintext


class BadNodes(BadBlocks):
    def assert_node_refused(self, name: str, change: writer.Change) -> None:
        self.objects.node = change
        self.assert_refused(name)

    def test_fields(self) -> None:
        cases = {
            "v": [0, 2, *types_other_than(int)],
            "kind": ["root", "", *types_other_than(str)],
            "links": [*types_other_than(list), [RAW_LINK] * 257, [1], *([one] for one in FOREIGN_LINKS)],
            "sealed": [bytes(12_385), *types_other_than(bytes)],
        }
        for key, values in cases.items():
            for value in values:
                with self.subTest(key=key, value=repr(value)[:60]):
                    self.assert_node_refused("Malformed", lambda node: {**node, key: value})

    def test_a_key_more_or_less(self) -> None:
        self.assert_node_refused("Malformed", lambda node: {**node, "x": 1})
        for key in ("v", "kind", "links", "sealed"):
            self.assert_node_refused("Malformed", lambda node: {one: node[one] for one in node if one != key})

    def test_bytes_of_the_block(self) -> None:
        for change in (
            lambda node: b"",
            lambda node: writer.dumps(node) + b"\0",
            lambda node: writer.dumps(node)[:-1],
            lambda node: b"\xbf" + writer.dumps(node)[1:] + b"\xff",
            lambda node: b"\x81" * 60_000,
            lambda node: b"\x9b" + b"\xff" * 8,
        ):
            self.assert_node_refused("Malformed", change)

    def test_links_are_authenticated(self) -> None:
        self.assert_node_refused("WrongKey", lambda node: {**node, "links": node["links"][::-1] + [RAW_LINK]})
        self.assert_node_refused("WrongKey", lambda node: {**node, "sealed": b""})

    def test_secrets(self) -> None:
        for number, change in enumerate((
            lambda secret: b"",
            lambda secret: secret[:-1],
            lambda secret: secret[:1],
            lambda secret: secret[:-48],
            lambda secret: b"\0" + secret[1:],
            lambda secret: bytes([secret[0] | 4]) + secret[1:],
            lambda secret: bytes([secret[0] << 6 & 0xFF]) + secret[1:],
        )):
            with self.subTest(number=number):
                self.objects.secret = change
                self.assert_refused("Inconsistent")
        self.objects.secret = lambda secret: secret + bytes(96)
        self.assert_refused("Length")

    def test_a_child_beyond_the_end(self) -> None:
        chunk = self.objects.chunk(b"x" * 4096)
        pair, empty = self.objects.gather({0: chunk, 1: chunk}), self.objects.gather({})
        last = self.objects.gather({0: pair, 1: pair})
        disk = {"name": "vda", "bytes": 12_288, **last}
        self.assert_root_refused("Inconsistent", [disk], [])
        # Even one that has no children itself.
        disk = {"name": "vda", "bytes": 20_480, **self.objects.gather({1: self.objects.gather({1: empty})})}
        self.assert_root_refused("Inconsistent", [disk], [])

    def test_a_link_of_another_level(self) -> None:
        chunk = self.objects.chunk(b"x" * 4096)
        node = self.objects.gather({0: chunk})
        for below in (chunk, self.objects.gather({0: node})):
            disk = {"name": "vda", "bytes": 16_384, **self.objects.gather({0: below})}
            self.assert_root_refused("Inconsistent", [disk], [])

    def test_a_root_in_the_place_of_a_node(self) -> None:
        other = self.roots.write([], [])
        disk = {"name": "vda", "bytes": 8192, "tree": other, "key": bytes(32), "id": bytes(16)}
        self.assert_root_refused("Malformed", [disk], [])


if __name__ == "__main__":
    unittest.main()
