"""Folders and CAR files that lack blocks, hold wrong ones, or are damaged."""

from __future__ import annotations

import os
import unittest

from .support import ReaderTest
from . import writer


class BadSources(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.content = b"".join(bytes([number + 1]) * 4096 for number in range(4))
        self.root = self.roots.write([self.objects.write("vda", self.content)], [])
        self.last = self.objects.chunk(b"\4" * 4096)["tree"]

    def assert_source_fails(self, name: str, source: object, root: object = None, exit_code: int = 7) -> str:
        outcome = self.restore(source, "--root", root or self.root)
        self.assert_fails(name, exit_code, outcome)
        return outcome.err

    def write_car(self, content: bytes):
        path = self.folder / "blocks.car"
        path.write_bytes(content)
        return path

    def test_a_missing_block(self) -> None:
        del self.blocks[self.last]
        for source in (self.car(), self.blocks.folder(self.folder / "blocks")):
            message = self.assert_source_fails("Missing", source)
            self.assertIn(f"block {self.last}, offset 12288 of disk vda", message)

    def test_a_missing_root(self) -> None:
        del self.blocks[self.root]
        for source in (self.car(), self.blocks.folder(self.folder / "blocks")):
            self.assertIn(str(self.root), self.assert_source_fails("Missing", source))

    def test_a_block_with_another_hash(self) -> None:
        for number, cid in enumerate((self.last, self.root)):
            good = self.blocks[cid]
            for wrong in (good[:-1], good + b"\0", bytes([good[0] ^ 1]) + good[1:], b""):
                self.blocks[cid] = wrong
                self.assertIn(str(cid), self.assert_source_fails("Corrupt", self.car()))
            self.assertIn(str(cid), self.assert_source_fails("Corrupt", self.blocks.folder(self.folder / f"{number}")))
            self.blocks[cid] = good

    def test_a_block_that_is_too_long(self) -> None:
        most = 2 * 1024 * 1024
        for length, name in ((most, "WrongKey"), (most + 1, "Corrupt")):
            cid = self.blocks.store(bytes(length), writer.RAW)
            disk = {"name": "vda", "bytes": 4096, "tree": cid, "key": bytes(32), "id": bytes(16)}
            root = self.roots.write([disk], [])
            for source in (self.car(), self.blocks.folder(self.folder / f"{length}")):
                self.assert_source_fails(name, source, root)

    def test_things_in_a_folder_that_are_no_files(self) -> None:
        folder = self.blocks.folder(self.folder / "blocks")
        for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/nowhere", path)):
            path = folder / str(self.last)
            path.unlink() if path.exists() and not path.is_dir() else None
            make(path)
            self.assert_source_fails("Missing", folder)
            path.rmdir() if path.is_dir() else path.unlink()

    def test_a_car_cut_anywhere(self) -> None:
        whole = self.car(self.root).read_bytes()
        header = len(writer.car_header([self.root]))
        for length in [*range(header + 50), *range(header + 50, len(whole), 7)]:
            car = self.write_car(whole[:length])
            # Blocks that stand before the damage are good; so the error is of what was not found.
            name = "NotACar" if length < header else "Missing"
            self.assert_source_fails(name, car)

    def test_a_car_with_damage_after_what_is_needed(self) -> None:
        for rubbish in (b"\xff" * 10, b"\xff" * 3, writer.varint(1 << 60), writer.varint(50) + b"short"):
            car = self.write_car(self.car().read_bytes() + rubbish)
            outcome = self.restore(car, "--root", self.root)
            self.assertEqual(outcome.exit_code, 0, outcome)
            self.assertRegex(outcome.err, "^warning: the CAR file is damaged: .*\n$")
            self.assertEqual(self.output.read_bytes(), self.content)
            self.output.unlink()

    def test_a_car_of_version_2(self) -> None:
        pragma = bytes.fromhex("0aa16776657273696f6e02")
        message = self.assert_source_fails("NotACar", self.write_car(pragma + bytes(40)))
        self.assertIn("version 2", message)

    def test_car_headers(self) -> None:
        link = writer.link(self.root)
        sections = b"".join(writer.car_section(*entry) for entry in self.blocks.items())
        headers = [
            b"",
            writer.dumps({"roots": [link], "version": 2}),
            writer.dumps({"roots": [link], "version": 1, "x": 1}),
            writer.dumps({"roots": [link]}),
            writer.dumps({"version": 1}),
            writer.dumps({"roots": 1, "version": 1}),
            writer.dumps({"roots": [self.root], "version": 1}),
            writer.dumps({"roots": [link], "version": 1}) + b"\0",
            writer.dumps([]),
            b"\x9b" + b"\xff" * 8,
            b"\x81" * 60_000,
        ]
        cars = [writer.varint(len(header)) + header + sections for header in headers]
        cars += [b"", b"\xff" * 20, writer.varint(1 << 62), writer.varint(2 << 20) + bytes(2 << 20), b"not a car"]
        for car in cars:
            with self.subTest(car[:40]):
                self.assert_source_fails("NotACar", self.write_car(car))

    def test_neither_folder_nor_file(self) -> None:
        self.assert_source_fails("NotACar", "/dev/null")
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        self.assert_source_fails("NotACar", fifo)
        outcome = self.restore(self.folder / "nothing", "--root", self.root)
        self.assertEqual(outcome.exit_code, 8, outcome)


class RootsOfSources(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.roots.write([self.objects.write("vda", b"content")], [])

    def test_a_folder_names_none(self) -> None:
        self.assert_fails("Usage", 2, self.restore(self.blocks.folder(self.folder / "blocks")))

    def test_a_car_with_none_or_several(self) -> None:
        for roots in ([], [self.root, self.root]):
            self.assert_fails("Usage", 2, self.restore(self.car(*roots)))

    def test_a_car_with_a_root_of_another_kind(self) -> None:
        foreign = bytes.fromhex("01701220") + bytes(32)
        self.assert_fails("Usage", 2, self.restore(self.car(foreign)))
        self.assert_restores(b"content", self.car(foreign), "--root", self.root)

    def test_a_car_with_a_root_that_is_a_chunk(self) -> None:
        raw = next(cid for cid in self.blocks if cid.is_raw)
        self.assert_fails("NotARoot", 7, self.restore(self.car(raw)))
        self.assert_fails("NotARoot", 7, self.restore(self.car(self.root), "--root", raw))


if __name__ == "__main__":
    unittest.main()
