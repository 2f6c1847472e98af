"""The strict decoder agrees with a general one, section 1: what cbor2 reads and writes again alike."""

from __future__ import annotations

import random
import unittest
from typing import Any

import cbor2

from .support import ReaderTest
from . import writer

from backup_format.cid import Cid, is_cid
from backup_format.dag_cbor import decode, encode
from backup_format.errors import FormatError

CID = Cid(bytes.fromhex("01711220") + bytes(32))
LINK = bytes.fromhex("d82a58250001711220") + bytes(32)
MUTATIONS = 20_000


def is_known(value: Any) -> bool:
    """Whether a general decoder's value is of the types of section 1."""
    if type(value) is int:
        return 0 <= value < 1 << 64
    if type(value) is list:
        return all(map(is_known, value))
    if type(value) is dict:
        return all(type(key) is str and is_known(one) for key, one in value.items())
    if type(value) is cbor2.CBORTag:
        return value.tag == 42 and type(value.value) is bytes and value.value[:1] == b"\0" and is_cid(value.value[1:])
    return type(value) in (bytes, str)


def general_decoder_takes(block: bytes) -> bool:
    try:
        value = cbor2.loads(block)
        return is_known(value) and writer.dumps(value) == block
    except Exception:
        return False


def strict_decoder_takes(block: bytes) -> bool:
    try:
        value = decode(block)
    except FormatError as error:
        assert error.name == "Malformed", error
        return False
    assert encode(value) == block
    return True


class DagCbor(ReaderTest):
    def test_every_type(self) -> None:
        value = {"a": [0, 23, 24, 255, 256, 1 << 32, (1 << 64) - 1], "bb": b"", "c": "ü", "link": CID, "map": {}}
        self.assertEqual(decode(encode(value)), value)
        self.assertEqual(encode(value), writer.dumps({**value, "link": writer.link(CID)}))

    def test_what_is_refused(self) -> None:
        cases = {
            "nothing": "",
            "two items": "0000",
            "a short head": "19 01",
            "short bytes": "42 00",
            "an array that claims 2^64 - 1 items": "9b ffffffffffffffff",
            "bytes that claim 2^63": "5b 8000000000000000",
            "long 0": "1800",
            "long 255": "1900ff",
            "long 65535": "1a0000ffff",
            "long 2^32 - 1": "1b00000000ffffffff",
            "a long length": "5800",
            "a long tag": "d9002a" + LINK.hex()[4:],
            "indefinite bytes": "5f4100ff",
            "an indefinite array": "9fff",
            "an indefinite map": "bfff",
            "a reserved head": "1c" + "ff" * 16,
            "another reserved head": "1e" + "ff" * 64,
            "an indefinite integer": "1f" + "ff" * 128,
            "a break": "ff",
            "a negative integer": "20",
            "false": "f4",
            "null": "f6",
            "undefined": "f7",
            "a half float": "f93c00",
            "a simple value": "e0",
            "another tag": "c100",
            "a bignum": "c249010000000000000000",
            "a link of text": "d82a6100",
            "an empty link": "d82a40",
            "a link without its zero": "d82a5824" + LINK.hex()[10:],
            "a link that begins with one": LINK.hex().replace("5825000171", "5825010171"),
            "a link of CID version 0": "d82a5823001220" + "00" * 32,
            "a link to dag-pb": LINK.hex().replace("0171", "0170"),
            "a link with SHA3-256": LINK.hex().replace("711220", "711620"),
            "a link with a short digest": "d82a5824000171121f" + "00" * 31,
            "a key of bytes": "a1410000",
            "a number as key": "a10000",
            "a key twice": "a2616100616100",
            "keys by bytes alone": "a262616100616200",
            "keys exchanged": "a2616200616100",
            "text that is not UTF-8": "61ff",
            "a surrogate": "63eda080",
            "an overlong letter": "62c1a1",
        }
        for name, block in cases.items():
            with self.subTest(name):
                raw = bytes.fromhex(block)
                with self.assert_class("Malformed"):
                    decode(raw)
                self.assertFalse(general_decoder_takes(raw))

    def test_depth_is_bounded(self) -> None:
        self.assertTrue(strict_decoder_takes(b"\x81" * 31 + b"\0"))
        for depth in (32, 65_000):
            with self.assert_class("Malformed"):
                decode(b"\x81" * depth + b"\0")

    def test_mutated_blocks(self) -> None:
        """Seed and count are fixed; the agreement must be exact, both ways."""
        source = random.Random(3)
        disks = [self.objects.write("vda", b"x" * 30_000), self.objects.write("vdb", bytes(9))]
        self.roots.write(disks, [])
        samples = [block for cid, block in self.blocks.items() if not cid.is_raw]
        samples += [encode({"a": [1, 24, 256, "é", b"1"], "b": {"c": CID, "dd": [], "ee": 1 << 40}})] * 4
        taken = 0
        for _ in range(MUTATIONS):
            block = mutated(source, source.choice(samples))
            expected = general_decoder_takes(block)
            self.assertEqual(strict_decoder_takes(block), expected, block.hex())
            taken += expected
        self.assertGreater(taken, MUTATIONS // 20)
        self.assertLess(taken, MUTATIONS)


def mutated(source: random.Random, block: bytes) -> bytes:
    """A block with one byte changed, dropped or added."""
    at = source.randrange(len(block))
    byte = bytes([source.randrange(256)])
    return source.choice((block[:at] + byte + block[at + 1 :], block[:at] + block[at + 1 :], block[:at] + byte + block[at:]))


class Cids(ReaderTest):
    def test_text_and_bytes(self) -> None:
        text = "bafyreibneyc6db3wmlvhpqxa35v3lslgrs6ywscazfrqi2uloeo6i6u73e"
        self.assertEqual(str(Cid.from_text(text)), text)

    def test_each_cid_has_one_text(self) -> None:
        text = str(CID)
        self.assertEqual(text[-1], "a")
        others = (text.upper(), text[:-1] + "b", text[:-1], text + "a", "z" + text[1:], text + "=", "", text[:-1] + "1")
        for other in others:
            with self.subTest(other), self.assert_class("Usage"):
                Cid.from_text(other)


if __name__ == "__main__":
    unittest.main()
