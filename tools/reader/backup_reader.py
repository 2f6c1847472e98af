#!/usr/bin/env python3
"""Lists and restores what a backup holds, from its root's CID, an identity and the blocks.

Knows docs/format.md and nothing else: no chain, no node, none of the other programs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

from backup_format.age import ENVELOPE_BYTES_MAX, IDENTITY_FILE_BYTES_MAX, Identity, identities, open_envelope
from backup_format.cid import Cid, is_cid
from backup_format.errors import FILE, INTERRUPTED, KEY, UNEXPECTED, FormatError, ensure, shown, within
from backup_format.root import Object, Root, Snapshot, open_root, parse_root
from backup_format.source import Car, Source, open_source
from backup_format.target import ensure_free, sparse_file
from backup_format.tree import chunks

PROGRESS_INTERVAL_SECONDS = 0.2
NUMBER_BYTES = (4, 8, 16)
KEY_CLASSES = ("EnvelopeMalformed", "WrongIdentity", "EnvelopeContent", "WrongKey")
"""How an envelope fails, or the read key that it gave. Another envelope may do better."""


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments as all other errors are."""

    def error(self, message: str) -> NoReturn:
        raise FormatError("Usage", message)


def parser() -> Parser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("source", type=Path, metavar="SOURCE", help="a folder of blocks, or a CAR v1 file")
    common.add_argument("--root", metavar="CID", help="the snapshot's root; may be left out if a CAR names one")
    common.add_argument("--identity", type=Path, required=True, metavar="FILE", help="age identities; all are tried")
    common.add_argument(
        "--envelope", type=Path, action="append", default=[], metavar="FILE", help="a later envelope; may be repeated"
    )
    top = Parser(prog="backup_reader.py", description=__doc__, allow_abbrev=False)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    info = verbs.add_parser("info", parents=[common], allow_abbrev=False, help="print what the root says")
    info.add_argument("--json", action="store_true", help="print one JSON document")
    restore = verbs.add_parser("restore", parents=[common], allow_abbrev=False, help="restore a disk or a blob")
    chosen = restore.add_mutually_exclusive_group()
    chosen.add_argument("--disk", metavar="NAME", help="may be left out if there is but one")
    chosen.add_argument("--blob", metavar="NAME")
    restore.add_argument("--output", type=Path, required=True, metavar="FILE", help="must not exist yet")
    restore.add_argument("--max-bytes", type=_size, metavar="N", help="refuse what is larger")
    return top


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes")
    return int(text)


# What the root says


def open_snapshot(arguments: argparse.Namespace, source: Source) -> tuple[Cid, Snapshot]:
    """Steps 1 to 4 of section 6.2: the root's CID, and what it holds."""
    owners = identities(_read(arguments.identity, IDENTITY_FILE_BYTES_MAX))
    later = [(f"envelope {path}", _read(path, ENVELOPE_BYTES_MAX)) for path in arguments.envelope]
    wanted = Cid.from_text(arguments.root) if arguments.root is not None else None
    cid = wanted or _root_of(source)
    with within(f"root {cid}"):
        ensure(not cid.is_raw, "NotARoot", "its CID is that of a chunk")
        root = parse_root(source.fetch(cid))
    envelopes = [(f"root {cid}", root.envelope), *later]
    return cid, _unlock(root, envelopes, owners)


def _read(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes; one more shows that it has more."""
    with path.open("rb") as file:
        return file.read(most + 1)


def _root_of(source: Source) -> Cid:
    """The root that a CAR file names, if it is one."""
    ensure(isinstance(source, Car), "Usage", "a folder does not name a root", "give --root CID")
    ensure(len(source.roots) == 1, "Usage", f"the CAR file names {len(source.roots)} roots", "give --root CID")
    ensure(is_cid(source.roots[0]), "Usage", "the CAR file names a root of another kind", "give --root CID")
    cid = Cid(source.roots[0])
    _warn(f"root {cid} is trusted as the file names it; compare it with the chain or with a note")
    return cid


def _unlock(root: Root, envelopes: list[tuple[str, bytes]], owners: list[Identity]) -> Snapshot:
    """Opens the root with the first envelope that serves. The error is that of the last."""
    failure = None
    for where, envelope in envelopes:
        try:
            with within(where):
                return open_root(root, open_envelope(envelope, owners))
        except FormatError as error:
            if error.name not in KEY_CLASSES:
                raise
            if error.name == "WrongKey":
                error.hint = "the envelope is that of another root, or the root was changed"
            error.exit_code = KEY
            failure = error
    assert failure is not None, "a root has an envelope"
    raise failure


# The verb `info`


def info(arguments: argparse.Namespace) -> None:
    with open_source(arguments.source, _warn) as source:
        report = _report(*open_snapshot(arguments, source))
    print(json.dumps(report, indent=2) if arguments.json else _table(report))


def _report(cid: Cid, snapshot: Snapshot) -> dict[str, Any]:
    root = snapshot.root
    return {
        "root": str(cid),
        "genesis": root.genesis.hex(),
        "node": root.node.hex(),
        "request": root.request.hex(),
        "sequence": root.sequence,
        "taken_at_ms": snapshot.taken_at_ms,
        "consistency": snapshot.consistency,
        "chunk_bytes": root.geometry.chunk_bytes,
        "fan_out": root.geometry.fan_out,
        "disks": [_object_report(disk) for disk in snapshot.disks],
        "blobs": [_object_report(blob) for blob in snapshot.blobs],
    }


def _object_report(one: Object) -> dict[str, Any]:
    return {"name": one.name, "bytes": one.size, "tree": str(one.tree) if one.tree is not None else None}


def _table(report: dict[str, Any]) -> str:
    rows = [
        ("root", report["root"]),
        ("genesis", report["genesis"]),
        ("node", _id(report["node"])),
        ("request", _id(report["request"])),
        ("sequence", report["sequence"]),
        ("taken at", _time(report["taken_at_ms"])),
        ("consistency", report["consistency"]),
    ]
    rows += [("disk", _object_row(disk)) for disk in report["disks"]]
    rows += [("blob", _object_row(blob)) for blob in report["blobs"]]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _object_row(one: dict[str, Any]) -> str:
    zero = "" if one["tree"] else ", all zero"
    return f"{shown(one['name'])}, {one['bytes']} bytes{zero}"


def _id(text: str) -> str:
    """An id on a chain. Those of some lengths are usually numbers, lowest byte first."""
    raw = bytes.fromhex(text)
    return f"{int.from_bytes(raw, 'little')} ({text})" if len(raw) in NUMBER_BYTES else text


def _time(milliseconds: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return f"{milliseconds} ms after 1970"
    return moment.isoformat(timespec="milliseconds")


# The verb `restore`


def restore(arguments: argparse.Namespace) -> None:
    """Steps 5 to 8 of section 6.2."""
    ensure_free(arguments.output)
    with open_source(arguments.source, _warn) as source:
        _, snapshot = open_snapshot(arguments, source)
        one = _choose(snapshot, arguments.disk, arguments.blob)
        _ensure_size(one, arguments.max_bytes)
        with sparse_file(arguments.output, one.size) as target, Progress(one) as progress:
            for offset, plaintext in chunks(one, snapshot.root.geometry, source):
                target.write(offset, plaintext)
                progress.show(offset + len(plaintext))
    name, written = shown(one.name), target.written_bytes
    print(f"{one.kind} {name}: {one.size} bytes, {written} of them written, in {arguments.output}")


def _choose(snapshot: Snapshot, disk: str | None, blob: str | None) -> Object:
    objects, kind, name = (snapshot.blobs, "blob", blob) if blob is not None else (snapshot.disks, "disk", disk)
    names = ", ".join(shown(one.name) for one in objects) or "none"
    if name is None:
        ensure(len(objects) == 1, "Usage", "which disk is not said", f"give --disk NAME, one of: {names}")
        return objects[0]
    found = [one for one in objects if one.name == name]
    ensure(len(found) == 1, "Usage", f"there is no {kind} {shown(name)}", f"there are: {names}")
    return found[0]


def _ensure_size(one: Object, most: int | None) -> None:
    allowed = most is None or one.size <= most
    ensure(allowed, "TooLarge", f"{one.size} bytes where at most {most} are allowed")


class Progress:
    """A line on standard error, if that is a terminal."""

    def __init__(self, one: Object):
        self.one = one
        self.active = sys.stderr.isatty()
        self.next_at = 0.0

    def __enter__(self) -> Progress:
        return self

    def show(self, done: int) -> None:
        now = time.monotonic()
        if self.active and now >= self.next_at:
            self.next_at = now + PROGRESS_INTERVAL_SECONDS
            percent = 100 * done // self.one.size
            print(f"\r{self.one.kind} {shown(self.one.name)}: {percent:3} %", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.active:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


# The end of the program


def main(argv: list[str]) -> int:
    """Runs one verb; the exit code."""
    try:
        arguments = parser().parse_args(argv)
        {"info": info, "restore": restore}[arguments.verb](arguments)
        sys.stdout.flush()
        return 0
    except FormatError as error:
        return _fail(error.exit_code, str(error), error.hint)
    except BrokenPipeError:
        # Who reads has seen enough. Python would complain when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(FILE, f"{error.filename or 'file'}: {error.strerror or error}", "check the path and its space")
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted", "nothing was left behind; start again")
    except Exception as error:
        return _fail(UNEXPECTED, f"unexpected: {type(error).__name__}: {error}", "this is a fault of the reader")


def _fail(exit_code: int, message: str, hint: str) -> int:
    print(f"error: {message}\n  {hint}", file=sys.stderr)
    return exit_code


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.exit(main(sys.argv[1:]))
