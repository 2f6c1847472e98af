"""The file that a restore writes: sparse, complete when it gets its name, never over another."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import using

HELD_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class SparseFile:
    """A file of zeros, some of which are written over."""

    def __init__(self, path: Path, file: BinaryIO, size: int):
        self.path = path
        self.file = file
        self.written_bytes = 0
        with using(path):
            file.truncate(size)

    def write(self, offset: int, plaintext: bytes) -> None:
        with using(self.path):
            self.file.seek(offset)
            self.file.write(plaintext)
        self.written_bytes += len(plaintext)

    def sync(self) -> None:
        with using(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())


@contextmanager
def sparse_file(path: Path, size: int) -> Iterator[SparseFile]:
    """A file of `size` zeros to write into, under the name `path` with `.partial`.

    At the end of the block it is made durable and named `path`. An error or an interruption, from
    inside or here, takes it away. Neither name may be taken.
    """
    ensure_free(path)
    partial = path.with_name(path.name + ".partial")
    created = False
    try:
        with _signals_held():
            file = open(partial, "xb", opener=_private)
            created = True
        with file:
            target = SparseFile(partial, file, size)
            yield target
            target.sync()
        with _signals_held():
            _name(partial, path)
            created = False
        _sync_folder(path.parent)
    finally:
        if created:
            with _signals_held():
                partial.unlink(missing_ok=True)


def ensure_free(path: Path) -> None:
    """Refuses a name that is taken, be it by a broken link."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "it exists, and nothing is written over", str(path))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _name(partial: Path, path: Path) -> None:
    """Renames, and fails if the name is taken. A plain rename would take its place."""
    try:
        os.link(partial, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: the check and the rename are two steps there.
        ensure_free(path)
        os.rename(partial, path)
    else:
        os.unlink(partial)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Lets what ends the program wait, so that it never falls between a deed and its record."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
