"""Hostile input in a process of little memory and time: it ends by name, and soon."""

from __future__ import annotations

import unittest
from pathlib import Path

import zstandard

from .support import Outcome, ReaderTest
from . import writer

from backup_format.root import Geometry

HUGE = 1 << 34
"""More than the memory that the process gets."""


class Limits(ReaderTest):
    def apart(self, source: Path, root: object, *arguments: object) -> Outcome:
        return self.run_apart(
            "restore", source, "--root", root, "--identity", self.key, "--output", self.output, *arguments
        )

    def test_the_honest_largest_chunk_fits(self) -> None:
        geometry = Geometry(1 << 20, 256)
        content = bytes(range(256)) * (1 << 13)
        disk = writer.ObjectWriter(self.blocks, geometry).write("vda", content)
        root = writer.RootWriter(self.blocks, geometry).write([disk], [])
        outcome = self.apart(self.car(), root)
        self.assertEqual(outcome.exit_code, 0, outcome)
        self.assertEqual(self.output.read_bytes(), content)

    def test_a_chunk_that_inflates_without_end(self) -> None:
        for states in (True, False):
            compressor = zstandard.ZstdCompressor(write_content_size=states).compressobj(size=HUGE if states else -1)
            # The beginning of a frame that never ends well; a megabyte of it holds gigabytes.
            frame = b"".join(compressor.compress(bytes(1 << 24)) for _ in range(64))
            frame += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            self.objects.payload = lambda _: b"\1" + frame
            root = self.roots.write([self.objects.write("vda", b"x")], [])
            name = "Length" if states else "Decompress"
            self.assert_fails(name, 7, self.apart(self.car(), root))

    def test_a_tree_that_claims_2_to_the_63(self) -> None:
        """One chunk hangs below every place of every node, so a few blocks make a restore without end."""
        size = 1 << 63
        node = self.objects.chunk(b"x" * 4096)
        for _ in range(writer.SMALL.levels(size)):
            node = self.objects.gather({0: node, 1: node})
        root = self.roots.write([{"name": "vda", "bytes": size, **node}], [])
        self.assert_fails("TooLarge", 7, self.apart(self.car(), root, "--max-bytes", 1 << 40))
        outcome = self.apart(self.car(), root)
        self.assertEqual(outcome.exit_code, 8, outcome)
        self.assertIn("no file can be that large", outcome.err)
        self.assert_nothing_left()

    def test_the_deepest_tree(self) -> None:
        size = (1 << 62) + 1
        disk = self.objects.place("vda", size, {0: b"x" * 4096})
        self.assertEqual(writer.SMALL.levels((1 << 64) - 1), 52)
        root = self.roots.write([disk], [])
        outcome = self.apart(self.car(), root, "--max-bytes", size)
        # Whether there can be such a file depends on the file system.
        self.assertIn(outcome.exit_code, (0, 8), outcome)

    def test_a_block_of_gigabytes(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"x")], [])
        folder = self.blocks.folder(self.folder / "blocks")
        with (folder / str(root)).open("r+b") as file:
            file.truncate(HUGE)
        self.assert_fails("Corrupt", 7, self.apart(folder, root))

    def test_a_section_of_gigabytes(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"x")], [])
        car = self.folder / "blocks.car"
        car.write_bytes(writer.car_header([root]) + writer.varint(HUGE + 36) + root)
        with car.open("r+b") as file:
            file.truncate(car.stat().st_size + HUGE)
        self.assert_fails("Corrupt", 7, self.apart(car, root))

    def test_files_without_end(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"x")], [])
        self.assert_fails("EnvelopeMalformed", 6, self.stranger(root, "--envelope", "/dev/zero"))
        self.key = Path("/dev/zero")
        self.assert_fails("NotAnIdentity", 6, self.apart(self.car(), root))

    def stranger(self, root: object, *arguments: object) -> Outcome:
        self.key = self.write_key("stranger.key", writer.STRANGER)
        return self.apart(self.car(), root, *arguments)

    def test_lengths_that_are_not_there(self) -> None:
        for claim in (b"\x9b" + b"\xff" * 8, b"\xbb" + b"\xff" * 8, b"\x5b\x7f" + b"\xff" * 7, b"\x7b" + b"\xff" * 8):
            self.objects.node = lambda _, claim=claim: claim
            root = self.roots.write([self.objects.write("vda", b"x" * 5000)], [])
            self.assert_fails("Malformed", 7, self.apart(self.car(), root))


if __name__ == "__main__":
    unittest.main()
