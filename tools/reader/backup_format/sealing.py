"""Section 4: opening what is sealed."""

from __future__ import annotations

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import FormatError, ensure

KEY_BYTES = 32
TAG_BYTES = 16
NONCE = bytes(12)
PLAIN, ZSTD = 0, 1
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def open_sealed(read_key: bytes, additional_data: bytes, sealed: bytes, most: int) -> bytes:
    """The plaintext, of at most `most` bytes."""
    ensure(len(sealed) >= TAG_BYTES, "WrongKey")
    try:
        payload = AESGCM(read_key).decrypt(NONCE, sealed, additional_data)
    except InvalidTag:
        raise FormatError("WrongKey") from None
    ensure(len(payload) > 0, "Decompress", "no codec")
    codec, plaintext = payload[0], payload[1:]
    ensure(codec in (PLAIN, ZSTD), "UnknownCodec", str(codec))
    if codec == ZSTD:
        plaintext = _decompress(plaintext, most)
    ensure(len(plaintext) <= most, "Length", f"{len(plaintext)} bytes where at most {most} belong")
    return plaintext


def _decompress(frame: bytes, most: int) -> bytes:
    """The content of exactly one frame, whose stated size is checked before anything is allocated."""
    ensure(frame[:4] == ZSTD_MAGIC, "Decompress")
    try:
        stated = zstandard.frame_content_size(frame)
        ensure(stated <= most, "Length", f"{stated} bytes where at most {most} belong")
        ensure(stated >= 0, "Decompress", "the frame does not state its size")
        # Writes into a buffer of the stated size; a frame that holds more is an error.
        decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(frame, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError:
        raise FormatError("Decompress") from None
