"""The classes of error of section 6.3, what each means, and what helps."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

UNEXPECTED, USAGE, KEY, BLOCKS, FILE, INTERRUPTED = 1, 2, 6, 7, 8, 130
"""Exit codes, those of the command `backup`."""

WRITERS_FAULT = "the block is as it was written; fetching it again does not help"


@dataclass(frozen=True)
class Class:
    """One class: its exit code, its meaning, and a hint for who meets it."""

    exit_code: int
    meaning: str
    hint: str


CLASSES = {
    "NotARoot": Class(BLOCKS, "the block is not the root of a snapshot", "check the root's CID"),
    "NewerVersion": Class(BLOCKS, "the root is of a later version", "get a newer reader"),
    "Malformed": Class(BLOCKS, "the block is malformed", WRITERS_FAULT),
    "Geometry": Class(BLOCKS, "chunk size or fan-out is out of bounds", WRITERS_FAULT),
    "Object": Class(BLOCKS, "size and link of an object contradict each other", WRITERS_FAULT),
    "Name": Class(BLOCKS, "a name is no plain file name, or is used twice", WRITERS_FAULT),
    "EnvelopeMalformed": Class(
        KEY, "the envelope is no sound age file", "give a later envelope with --envelope"
    ),
    "WrongIdentity": Class(
        KEY, "the envelope is sealed to others", "give another identity, or a later envelope"
    ),
    "EnvelopeContent": Class(
        KEY, "the envelope does not hold a read key", "give a later envelope with --envelope"
    ),
    "NotAnIdentity": Class(
        KEY, "the identity file is malformed", "each line is AGE-SECRET-KEY-1…, empty, or a # comment"
    ),
    "WrongKey": Class(BLOCKS, "the read key does not open it", WRITERS_FAULT),
    "UnknownCodec": Class(BLOCKS, "the codec is unknown", WRITERS_FAULT),
    "Length": Class(BLOCKS, "its content has not the length of its place", WRITERS_FAULT),
    "Decompress": Class(BLOCKS, "the compressed bytes are malformed", WRITERS_FAULT),
    "Inconsistent": Class(BLOCKS, "sealed and clear part contradict each other", WRITERS_FAULT),
    "Missing": Class(BLOCKS, "the source has no such block", "give a source that has it"),
    "Corrupt": Class(BLOCKS, "the bytes are not those of the CID", "fetch the block elsewhere"),
    # The specification has no classes for these three; they are this tool's own.
    "NotACar": Class(BLOCKS, "the source is no CAR file of version 1", "give a folder of blocks, or a CAR v1"),
    "TooLarge": Class(BLOCKS, "the object is larger than allowed", "allow more with --max-bytes"),
    "Usage": Class(USAGE, "the arguments are wrong", "see --help"),
}


class FormatError(Exception):
    """An error of one class. `where` is added on the way up, by `within`."""

    def __init__(self, name: str, detail: str = "", hint: str = ""):
        found = CLASSES[name]
        super().__init__(name, detail)
        self.name = name
        self.detail = detail
        self.exit_code = found.exit_code
        self.hint = hint or found.hint
        self.where = ""

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        where = f" ({self.where})" if self.where else ""
        return f"{self.name}: {CLASSES[self.name].meaning}{detail}{where}"


def ensure(holds: bool, name: str, detail: str = "", hint: str = "") -> None:
    """Raises an error of class `name` unless `holds`."""
    if not holds:
        raise FormatError(name, detail, hint)


@contextmanager
def within(where: str) -> Iterator[None]:
    """Says of errors from inside where they arose; the innermost place stands."""
    try:
        yield
    except FormatError as error:
        error.where = error.where or where
        raise


@contextmanager
def using(path: Path) -> Iterator[None]:
    """Says of errors of the system which file they concern; those on open files do not know."""
    try:
        yield
    except OverflowError:
        raise OSError(errno.EFBIG, "no file can be that large", str(path)) from None
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def shown(text: str) -> str:
    """Text of others for a terminal: what steers, turns or hides text is escaped."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)
