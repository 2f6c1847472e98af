"""Section 6.1: where blocks come from. Every block is hashed, so no source is trusted."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .cid import CID_BYTES, Cid, is_cid
from .dag_cbor import array, decode, exactly, fields
from .errors import FormatError, ensure, using, within

BLOCK_BYTES_MAX = 2 * 1024 * 1024
CAR_HEADER_BYTES_MAX = 1024 * 1024
CAR_V2_BEGINNING = bytes.fromhex("0aa16776657273696f6e02")
VARINT_BYTES_MAX = 9


class Source(ABC):
    """Gives the bytes of a CID."""

    def fetch(self, cid: Cid) -> bytes:
        """The block of this name; its bytes are the right ones."""
        block = self.read(cid)
        ensure(block is not None, "Missing")
        ensure(len(block) <= BLOCK_BYTES_MAX, "Corrupt", f"it is longer than {BLOCK_BYTES_MAX} bytes")
        ensure(cid.names(block), "Corrupt")
        return block

    @abstractmethod
    def read(self, cid: Cid) -> bytes | None:
        """At most one byte more than a block can have, unchecked."""


class Folder(Source):
    """One file per block, named by its CID, with or without an ending."""

    def __init__(self, path: Path):
        self.path = path
        self.endings = ["", ".bin"]

    def read(self, cid: Cid) -> bytes | None:
        file = self._find(str(cid))
        if file is None:
            return None
        with using(file), file.open("rb") as opened:
            return opened.read(BLOCK_BYTES_MAX + 1)

    def _find(self, name: str) -> Path | None:
        for ending in self.endings:
            file = self.path / (name + ending)
            if file.is_file():
                return file
        # The whole folder is looked through once for each ending that occurs, and before giving up.
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith(f"{name}.") and entry.is_file():
                    self.endings.append(entry.name[len(name) :])
                    return Path(entry.path)
        return None


class Hint(bytes):
    """A root that a CAR file names; its CID may be of any kind."""


class Car(Source):
    """A CAR file of version 1. It is looked through once; where each block stands is kept."""

    def __init__(self, path: Path, file: BinaryIO, warn: Callable[[str], None]):
        self.path = path
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        self.roots = self._read_header()
        self.blocks: dict[bytes, tuple[int, int]] = {}
        try:
            self._read_sections()
        except FormatError as error:
            # Blocks before the damage are good, as their hashes will show.
            warn(f"the CAR file is damaged: {error.detail}; only the blocks before are used")

    def read(self, cid: Cid) -> bytes | None:
        if cid not in self.blocks:
            return None
        offset, length = self.blocks[cid]
        with using(self.path):
            self.file.seek(offset)
            return self.file.read(min(length, BLOCK_BYTES_MAX + 1))

    def _read_header(self) -> list[Hint]:
        self.file.seek(0)
        version_2 = self.file.read(len(CAR_V2_BEGINNING)) == CAR_V2_BEGINNING
        ensure(not version_2, "NotACar", "it is of version 2", "convert it to version 1")
        self.file.seek(0)
        length = self._varint()
        sound = length is not None and 0 < length <= min(CAR_HEADER_BYTES_MAX, self.size - self.file.tell())
        ensure(sound, "NotACar", "it has no header")
        try:
            header = decode(self.file.read(length), link=Hint)
            roots = array(_hint, CAR_HEADER_BYTES_MAX)
            return fields(header, roots=roots, version=exactly(1))["roots"]
        except FormatError as error:
            raise FormatError("NotACar", f"its header is malformed: {error.detail}") from None

    def _read_sections(self) -> None:
        while (length := self._varint()) is not None:
            start = self.file.tell()
            end = start + length
            ensure(end <= self.size, "NotACar", f"the section at byte {start} ends after the file")
            cid = self.file.read(min(length, CID_BYTES))
            if is_cid(cid):
                self.blocks.setdefault(cid, (start + CID_BYTES, length - CID_BYTES))
            self.file.seek(end)

    def _varint(self) -> int | None:
        """The next number; none at the end of the file."""
        value = 0
        for position in range(VARINT_BYTES_MAX):
            byte = self.file.read(1)
            if not byte:
                ensure(position == 0, "NotACar", "it ends within a length")
                return None
            value |= (byte[0] & 0x7F) << 7 * position
            if byte[0] < 0x80:
                return value
        raise FormatError("NotACar", f"a length of more than {VARINT_BYTES_MAX} bytes at byte {self.file.tell()}")


def _hint(value: object) -> Hint:
    ensure(type(value) is Hint, "Malformed", "Unexpected type here")
    return value


@contextmanager
def open_source(path: Path, warn: Callable[[str], None]) -> Iterator[Source]:
    """The source at a path: a folder, or a CAR file, which is closed at the end of the block."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        yield Folder(path)
        return
    ensure(stat.S_ISREG(mode), "NotACar", "it is neither a folder nor a file")
    with path.open("rb") as file:
        with within(f"source {path}"), using(path):
            car = Car(path, file, warn)
        yield car
