"""Section 2: names of blocks."""

from __future__ import annotations

import base64
import hashlib

from .errors import ensure

CID_BYTES = 36
CID_TEXT_CHARS = 59
RAW, DAG_CBOR = 0x55, 0x71


class Cid(bytes):
    """The 36 bytes of a CID: version 1, raw or dag-cbor, SHA2-256."""

    @classmethod
    def from_bytes(cls, raw: bytes) -> Cid:
        ensure(is_cid(raw), "Malformed", "ForeignLink, a CID of another kind")
        return cls(raw)

    @classmethod
    def from_text(cls, text: str) -> Cid:
        """The CID that a person wrote; exactly one text is right for each CID."""
        wrong = f"{text[:80]!r} is not a CID of this format"
        ensure(len(text) == CID_TEXT_CHARS and text[0] == "b" and text == text.lower(), "Usage", wrong)
        try:
            raw = base64.b32decode(text[1:].upper() + "=" * 6)
        except ValueError:
            raw = b""
        ensure(is_cid(raw) and str(cls(raw)) == text, "Usage", wrong)
        return cls(raw)

    def __str__(self) -> str:
        return "b" + base64.b32encode(self).decode().rstrip("=").lower()

    @property
    def is_raw(self) -> bool:
        return self[1] == RAW

    def names(self, block: bytes) -> bool:
        """Whether the block is the one that this CID names."""
        return hashlib.sha256(block).digest() == self[4:]


def is_cid(raw: bytes) -> bool:
    """Whether these are the bytes of a CID of this format."""
    return len(raw) == CID_BYTES and raw[0] == 1 and raw[1] in (RAW, DAG_CBOR) and raw[2:4] == b"\x12\x20"
