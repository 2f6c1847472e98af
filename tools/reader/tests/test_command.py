"""The command line: arguments, files in the way, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

from .support import READER, TIME_SECONDS_MAX, Outcome, ReaderTest
from . import writer

import backup_reader
from backup_format import source, target


class Arguments(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.roots.write([self.objects.write(name, b"content") for name in ("vda", "vdb")], [])

    def test_what_is_wrong(self) -> None:
        car = self.car(self.root)
        good = ["restore", car, "--root", self.root, "--identity", self.key, "--output", self.output]
        for wrong in (
            [],
            ["resto"],
            good[:1],
            good[:-2],
            good[:4] + good[6:],
            [*good, "--unknown"],
            [*good, "--max-bytes", "-1"],
            [*good, "--max-bytes", "1k"],
            [*good, "--max-bytes", "²"],
            [*good, "--disk", "vda", "--blob", "x"],
            [*good, "--disk", "vdc"],
            [*good, "--blob", "vda"],
            good,
            [*good, "--disk", "vda", "--root", "bafy"],
            [*good, "--disk", "vda", "--root", str(self.root).upper()],
        ):
            with self.subTest(wrong[8:]):
                self.assert_fails("Usage", 2, self.run_reader(*wrong))

    def test_the_disks_are_named_if_none_is_chosen(self) -> None:
        self.assertIn("vda, vdb", self.restore(self.car(), "--root", self.root).err)

    def test_help(self) -> None:
        done = self.run_apart("--help")
        self.assertEqual((done.exit_code, done.err), (0, ""))
        self.assertIn("restore", done.out)


class Files(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.roots.write([self.objects.write("vda", b"content")], [])

    def assert_file_error(self, outcome: Outcome) -> None:
        self.assertEqual(outcome.exit_code, 8, outcome)
        self.assertRegex(outcome.err, r"^error: /.*\n  .*\n$")

    def test_nothing_is_written_over(self) -> None:
        for name in ("out.raw", "out.raw.partial"):
            path = self.folder / name
            path.write_bytes(b"precious")
            self.assert_file_error(self.restore(self.car(), "--root", self.root))
            self.assertEqual(path.read_bytes(), b"precious")
            path.unlink()
            self.assert_nothing_left()

    def test_a_link_to_nowhere_is_in_the_way(self) -> None:
        for name in ("out.raw", "out.raw.partial"):
            os.symlink(self.folder / "elsewhere", self.folder / name)
            self.assert_file_error(self.restore(self.car(), "--root", self.root))
            (self.folder / name).unlink()
        self.assertFalse((self.folder / "elsewhere").exists())

    def test_a_file_that_comes_meanwhile_stays(self) -> None:
        sync = target.SparseFile.sync

        def slow(file: target.SparseFile) -> None:
            self.output.write_bytes(b"precious")
            sync(file)

        with mock.patch.object(target.SparseFile, "sync", slow):
            self.assert_file_error(self.restore(self.car(), "--root", self.root))
        self.assertEqual(self.output.read_bytes(), b"precious")
        self.output.unlink()
        self.assert_nothing_left()

    def test_the_file_is_durable_before_it_is_named_and_its_name_after(self) -> None:
        deeds = []
        fsync, link = os.fsync, os.link

        def note_fsync(number: int) -> None:
            deeds.append(os.readlink(f"/proc/self/fd/{number}"))
            fsync(number)

        def note_link(*names: object, **options: object) -> None:
            deeds.append("named")
            link(*names, **options)

        with mock.patch("os.fsync", note_fsync), mock.patch("os.link", note_link):
            self.restore(self.car(), "--root", self.root)
        self.assertEqual(deeds, [f"{self.output}.partial", "named", str(self.folder)])

    def test_a_file_system_without_links(self) -> None:
        with mock.patch("os.link", side_effect=PermissionError(1, "no links here")):
            self.assert_restores(b"content", self.car(), "--root", self.root)

    def test_missing_files(self) -> None:
        good = ["restore", self.car(), "--root", self.root]
        nothing = self.folder / "nothing"
        self.assert_file_error(self.run_reader(*good, "--identity", nothing, "--output", self.output))
        self.assert_file_error(self.run_reader(*good, "--identity", self.key, "--output", nothing / "out.raw"))
        self.assert_file_error(self.restore(self.car(), "--root", self.root, "--envelope", nothing))
        self.assert_file_error(self.restore(nothing, "--root", self.root))

    def test_a_full_disk(self) -> None:
        for step in ("write", "sync"):
            with mock.patch.object(target.SparseFile, step, side_effect=OSError(28, "No space left", "/out")):
                self.assert_file_error(self.restore(self.car(), "--root", self.root))
            self.assert_nothing_left()

    def test_the_file_is_for_its_owner_alone(self) -> None:
        self.restore(self.car(), "--root", self.root)
        self.assertEqual(self.output.stat().st_mode & 0o777, 0o600)

    def test_who_reads_the_answer_may_leave(self) -> None:
        command = [sys.executable, str(READER), "info", str(self.car()), "--root", str(self.root)]
        reader, answer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*command, "--identity", str(self.key)], stdout=answer, stderr=subprocess.PIPE, timeout=TIME_SECONDS_MAX
        )
        os.close(answer)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Interruptions(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        content = b"".join(bytes([number + 1]) * 4096 for number in range(8))
        self.root = self.roots.write([self.objects.write("vda", content)], [])

    def test_at_every_step(self) -> None:
        """Cuts a restore at each block that it reads and at each chunk that it writes."""
        for place, name in ((source.Source, "fetch"), (target.SparseFile, "write"), (target.SparseFile, "sync")):
            steps = self.steps_of(place, name, None)
            self.assertGreater(steps, 0)
            for step in range(1, steps + 1):
                with self.subTest(name, step=step):
                    self.steps_of(place, name, step)

    def steps_of(self, place: type, name: str, cut_at: int | None) -> int:
        """Restores, and is interrupted at one step; the number of steps."""
        original, steps = getattr(place, name), 0

        def step(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == cut_at:
                raise KeyboardInterrupt
            return original(*arguments)

        with mock.patch.object(place, name, step):
            outcome = self.restore(self.car(), "--root", self.root)
        if cut_at is None:
            self.assertEqual(outcome.exit_code, 0, outcome)
            self.output.unlink()
        else:
            self.assertEqual((outcome.exit_code, outcome.err[:18]), (130, "error: interrupted"))
        self.assert_nothing_left()
        return steps

    def test_an_unexpected_error_leaves_nothing(self) -> None:
        with mock.patch.object(backup_reader, "chunks", side_effect=RuntimeError("odd")):
            outcome = self.restore(self.car(), "--root", self.root)
        self.assertEqual(outcome.exit_code, 1, outcome)
        self.assertIn("error: unexpected: RuntimeError: odd\n  ", outcome.err)
        self.assert_nothing_left()

    def test_signals_to_a_long_restore(self) -> None:
        node = self.objects.chunk(b"x" * 4096)
        for _ in range(26):
            node = self.objects.gather({0: node, 1: node})
        root = self.roots.write([{"name": "vda", "bytes": 4096 << 26, **node}], [])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                self.assertEqual(self.signalled(self.car(), root, number), 130)
                self.assert_nothing_left()

    def signalled(self, car: Path, root: object, number: signal.Signals) -> int:
        """Starts a restore, and sends the signal once it writes; its exit code."""
        command = [sys.executable, str(READER), "restore", car, "--root", root, "--identity", self.key]
        partial = self.output.with_name(self.output.name + ".partial")
        running = subprocess.Popen(
            [*map(str, command), "--output", str(self.output)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: heed(number),
        )
        try:
            deadline = time.monotonic() + TIME_SECONDS_MAX
            while not (partial.exists() and partial.stat().st_blocks > 0) and time.monotonic() < deadline:
                time.sleep(0.01)
            running.send_signal(number)
            return running.wait(TIME_SECONDS_MAX)
        finally:
            running.kill()
            running.wait()


def heed(number: signal.Signals) -> None:
    """A program that is started in the background of a shell, or with nohup, ignores some signals."""
    signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    unittest.main()
