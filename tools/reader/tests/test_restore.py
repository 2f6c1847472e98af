"""What was sealed comes back: in every geometry, from both sources, whole, sparse or zero."""

from __future__ import annotations

import json
import random
import unittest

from .support import ReaderTest
from . import writer

from backup_format.root import Geometry

RANDOM = random.Random(7)
GEOMETRIES = (Geometry(4096, 2), Geometry(4096, 4), Geometry(8192, 16), Geometry(16384, 256), Geometry(262144, 64))


def sparse(size: int, chunk_bytes: int) -> bytes:
    """A content whose first, middle and last chunk are not zero."""
    content = bytearray(size)
    for at in (0, size // 2, size - 1):
        start = at // chunk_bytes * chunk_bytes
        end = min(start + chunk_bytes, size)
        content[start:end] = RANDOM.randbytes(end - start)
    return bytes(content)


class Restore(ReaderTest):
    def test_every_geometry_and_size(self) -> None:
        for number, geometry in enumerate(GEOMETRIES):
            c, f = geometry.chunk_bytes, geometry.fan_out
            for size in (1, c - 1, c, c + 1, 5 * c + 1, min(f * c, 32 * c) + 1):
                with self.subTest(geometry=geometry, size=size):
                    blocks = writer.Blocks()
                    content = RANDOM.randbytes(size)
                    disk = writer.ObjectWriter(blocks, geometry).write("vda", content)
                    root = writer.RootWriter(blocks, geometry).write([disk], [])
                    source = blocks.folder(self.folder / f"{number}-{size}")
                    self.assert_restores(content, source, "--root", root)

    def test_sparse_content_from_a_folder_and_a_car(self) -> None:
        for number, geometry in enumerate(GEOMETRIES):
            with self.subTest(geometry=geometry):
                blocks = writer.Blocks()
                content = sparse(70 * geometry.chunk_bytes + 5, geometry.chunk_bytes)
                disk = writer.ObjectWriter(blocks, geometry).write("vda", content)
                root = writer.RootWriter(blocks, geometry).write([disk], [])
                self.assertLess(len([cid for cid in blocks if cid.is_raw]), 4)
                folder = blocks.folder(self.folder / f"{number}", ".bin")
                self.assert_restores(content, folder, "--root", root)
                self.assert_restores(content, blocks.car(self.folder / f"{number}.car", []), "--root", root)

    def test_holes_are_not_written(self) -> None:
        disk = self.objects.place("vda", 1 << 40, {(1 << 27) + 3: b"x" * 4096})
        root = self.roots.write([disk], [])
        outcome = self.restore(self.car(root), "--root", root)
        self.assertEqual(outcome.exit_code, 0, outcome)
        found = self.output.stat()
        self.assertEqual(found.st_size, 1 << 40)
        self.assertLess(found.st_blocks * 512, 1 << 20)
        with self.output.open("rb") as file:
            file.seek(((1 << 27) + 3) * 4096)
            self.assertEqual(file.read(4097), b"x" * 4096 + b"\0")

    def test_all_zero_and_empty_objects(self) -> None:
        disks = [self.objects.write("zero", bytes(10_000)), self.objects.write("empty", b"")]
        root = self.roots.write(disks, [])
        self.assertEqual(len(self.blocks), 1)
        self.assert_restores(bytes(10_000), self.car(root), "--root", root, "--disk", "zero")
        self.assert_restores(b"", self.car(root), "--root", root, "--disk", "empty")

    def test_a_node_without_children_is_a_hole(self) -> None:
        disk = {"name": "vda", "bytes": 8192, **self.objects.gather({})}
        root = self.roots.write([disk], [])
        self.assert_restores(bytes(8192), self.car(root), "--root", root)

    def test_several_disks_and_blobs(self) -> None:
        content = {name: RANDOM.randbytes(9000 + len(name)) for name in ("vda", "vdb", "größe", "machine.toml")}
        disks = [self.objects.write(name, content[name]) for name in ("vda", "vdb", "größe")]
        # A disk and a blob may share a name.
        blobs = [self.objects.write("machine.toml", content["machine.toml"]), self.objects.write("vda", b"blob")]
        root = self.roots.write(disks, blobs)
        for name in ("vda", "vdb", "größe"):
            self.assert_restores(content[name], self.car(root), "--root", root, "--disk", name)
        self.assert_restores(content["machine.toml"], self.car(root), "--root", root, "--blob", "machine.toml")
        self.assert_restores(b"blob", self.car(root), "--root", root, "--blob", "vda")

    def test_as_much_as_there_may_be(self) -> None:
        geometry = Geometry(4096, 256)
        content = b"".join(bytes([number]) * 4095 + b"." for number in range(256))
        disks = [writer.ObjectWriter(self.blocks, geometry).write("vda", content)]
        disks += [self.objects.write(f"{number}" * 64, bytes(1)) for number in range(10, 73)]
        blobs = [self.objects.write(f"{number}", bytes(1)) for number in range(64)]
        self.roots.geometry = geometry
        self.roots.clear = lambda clear: {**clear, "node": bytes(64), "request": bytes(64), "sequence": (1 << 64) - 1}
        root = self.roots.write(disks, blobs)
        self.assert_restores(content, self.car(root), "--root", root, "--disk", "vda")

    def test_plain_chunks(self) -> None:
        self.objects.payload = writer.plain
        content = RANDOM.randbytes(20_481)
        root = self.roots.write([self.objects.write("vda", content)], [])
        self.assert_restores(content, self.car(root), "--root", root)

    def test_equal_chunks_are_one_block(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"x" * 4096 * 4)], [])
        # One chunk, one node of level 1, one of level 2, the root.
        self.assertEqual(len(self.blocks), 4)
        self.assert_restores(b"x" * 4096 * 4, self.car(root), "--root", root)

    def test_any_ending_of_a_file(self) -> None:
        content = RANDOM.randbytes(20_481)
        root = self.roots.write([self.objects.write("vda", content)], [])
        self.assert_restores(content, self.blocks.folder(self.folder / "blocks", ".raw.block"), "--root", root)

    def test_the_largest_bound_that_allows(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"x" * 5000)], [])
        self.assert_restores(b"x" * 5000, self.car(root), "--root", root, "--max-bytes", 5000)

    def test_the_only_root_of_a_car_is_taken_and_said(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"content")], [])
        outcome = self.restore(self.car(root))
        self.assertEqual(outcome.exit_code, 0, outcome)
        self.assertIn(f"root {root} is trusted as the file names it", outcome.err)
        self.assertEqual(self.output.read_bytes(), b"content")

    def test_a_car_may_repeat_blocks_and_hold_others(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"content")], [])
        car = self.folder / "mixed.car"
        sections = [writer.car_section(*entry) for entry in self.blocks.items()]
        foreign = [writer.car_section(bytes.fromhex("1220") + bytes(32), b"of CID version 0"), writer.varint(0)]
        foreign.append(writer.car_section(bytes.fromhex("01701220") + bytes(32), b"dag-pb"))
        car.write_bytes(writer.car_header([]) + b"".join(foreign + sections[::-1] + foreign + sections))
        self.assert_restores(b"content", car, "--root", root)


class Identities(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.disk = self.objects.write("vda", b"content")

    def test_all_of_a_file_are_tried(self) -> None:
        root = self.roots.write([self.disk], [])
        self.key = self.write_key("several.key", writer.STRANGER, bytes([3]) * 32, writer.OWNER)
        self.assert_restores(b"content", self.car(root), "--root", root)

    def test_all_recipients_of_an_envelope(self) -> None:
        owners = [bytes([number]) * 32 for number in range(1, 17)]
        self.roots.recipients = [writer.recipient(owner) for owner in owners]
        root = self.roots.write([self.disk], [])
        for owner in (owners[0], owners[-1]):
            self.key = self.write_key("one.key", owner)
            self.assert_restores(b"content", self.car(root), "--root", root)

    def test_a_later_envelope(self) -> None:
        root = self.roots.write([self.disk], [])
        later = self.folder / "later.age"
        later.write_bytes(writer.seal_envelope(self.roots.read_key, [writer.recipient(writer.STRANGER)]))
        self.key = self.write_key("stranger.key", writer.STRANGER)
        self.assert_restores(b"content", self.car(root), "--root", root, "--envelope", later)

    def test_a_root_without_envelope_opens_with_a_later_one(self) -> None:
        self.roots.envelope = lambda root: {**root, "envelope": b""}
        root = self.roots.write([self.disk], [])
        later = self.folder / "later.age"
        later.write_bytes(writer.seal_envelope(self.roots.read_key, [writer.recipient(writer.OWNER)]))
        self.assert_restores(b"content", self.car(root), "--root", root, "--envelope", later)


class Info(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        disks = [self.objects.write("vda", b"x" * 5000), self.objects.write("vd\u202eb", bytes(4096))]
        self.root = self.roots.write(disks, [self.objects.write("machine.toml", b"name = 1")])

    def info(self, *arguments: object) -> str:
        outcome = self.run_reader("info", self.car(), "--root", self.root, "--identity", self.key, *arguments)
        self.assertEqual((outcome.exit_code, outcome.err), (0, ""))
        return outcome.out

    def test_as_text(self) -> None:
        expected = f"""\
root         {self.root}
genesis      {"03" * 32}
node         4 (04000000)
request      5 (0500000000000000)
sequence     6
taken at     2026-09-21T14:13:20.000+00:00
consistency  crash
disk         vda, 5000 bytes
disk         vd\\u{{202e}}b, 4096 bytes, all zero
blob         machine.toml, 8 bytes
"""
        self.assertEqual(self.info(), expected)

    def test_as_json(self) -> None:
        report = json.loads(self.info("--json"))
        self.assertEqual(report["root"], str(self.root))
        self.assertEqual([disk["name"] for disk in report["disks"]], ["vda", "vd\u202eb"])
        self.assertEqual(report["disks"][1], {"name": "vd\u202eb", "bytes": 4096, "tree": None})
        self.assertEqual(report["taken_at_ms"], 1_790_000_000_000)

    def test_a_time_beyond_all_calendars(self) -> None:
        self.roots.header = lambda header: {**header, "taken_at_ms": (1 << 64) - 1}
        self.root = self.roots.write([], [])
        self.assertIn("18446744073709551615 ms after 1970", self.info())


if __name__ == "__main__":
    unittest.main()
