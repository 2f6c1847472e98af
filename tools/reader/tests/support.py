"""What the tests have in common: a folder each, and the program in this process or in its own."""

from __future__ import annotations

import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path

READER = Path(__file__).resolve().parent.parent / "backup_reader.py"
sys.path.insert(0, str(READER.parent))

import backup_reader  # noqa: E402
from backup_format.errors import FormatError  # noqa: E402

from . import writer  # noqa: E402

MEMORY_BYTES_MAX = 512 * 1024 * 1024
TIME_SECONDS_MAX = 20


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    out: str
    err: str


class ReaderTest(unittest.TestCase):
    """Each test has a folder, in which `owner.key` is an identity that opens what is sealed."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.output = self.folder / "out.raw"
        self.key = self.write_key("owner.key", writer.OWNER)
        self.blocks = writer.Blocks()
        self.objects = writer.ObjectWriter(self.blocks, writer.SMALL)
        self.roots = writer.RootWriter(self.blocks)

    def write_key(self, name: str, *identities: bytes) -> Path:
        path = self.folder / name
        path.write_text("# made for tests\n" + "\n".join(map(writer.identity_text, identities)) + "\n")
        return path

    def car(self, *roots: bytes) -> Path:
        return self.blocks.car(self.folder / "blocks.car", list(roots))

    def run_reader(self, *arguments: object) -> Outcome:
        """Runs the program in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exit_code = backup_reader.main([str(one) for one in arguments])
        return Outcome(exit_code, out.getvalue(), err.getvalue())

    def run_apart(self, *arguments: object) -> Outcome:
        """Runs the program in a process of its own, with little memory and time."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))

        command = [sys.executable, str(READER), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_SECONDS_MAX, preexec_fn=limit, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def restore(self, source: Path, *arguments: object) -> Outcome:
        return self.run_reader("restore", source, "--identity", self.key, "--output", self.output, *arguments)

    def assert_restores(self, content: bytes, source: Path, *arguments: object) -> None:
        """The object comes back byte for byte. Its file is taken away for the next one."""
        outcome = self.restore(source, *arguments)
        self.assertEqual((outcome.exit_code, outcome.err), (0, ""))
        self.assertEqual(self.output.read_bytes(), content)
        self.output.unlink()
        self.assert_nothing_left()

    def assert_fails(self, name: str, exit_code: int, outcome: Outcome) -> None:
        """The error is of this class, in two lines at the end, and no output is left behind."""
        lines = outcome.err.splitlines()
        self.assertGreaterEqual(len(lines), 2, outcome)
        self.assertTrue(lines[-2].startswith(f"error: {name}: "), outcome)
        self.assertRegex(lines[-1], "^  [^ ]")
        self.assertEqual(outcome.exit_code, exit_code, outcome)
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        left = [path.name for path in self.folder.iterdir() if path.name.startswith(self.output.name)]
        self.assertEqual(left, [])

    @contextlib.contextmanager
    def assert_class(self, name: str):
        with self.assertRaises(FormatError) as caught:
            yield
        self.assertEqual(caught.exception.name, name, caught.exception)
