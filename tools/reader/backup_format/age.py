"""Section 5: identities, and all of age that an envelope needs."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import FormatError, ensure
from .sealing import KEY_BYTES

ENVELOPE_BYTES_MAX = 4096
IDENTITY_FILE_BYTES_MAX = 64 * 1024

VERSION_LINE = b"age-encryption.org/v1"
X25519_INFO = b"age-encryption.org/v1/X25519"
ROW_CHARS = 64
FILE_KEY_BYTES = 16
PAYLOAD_NONCE_BYTES = 16
LAST_CHUNK = bytes(11) + b"\x01"

BECH32_PREFIX = "age-secret-key-"
BECH32_DIGITS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32_TERMS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
KEY_DIGITS, CHECKSUM_DIGITS = 52, 6


class Identity:
    """An X25519 private key."""

    def __init__(self, secret: bytes):
        self.private = X25519PrivateKey.from_private_bytes(secret)
        self.recipient = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def identities(file: bytes) -> list[Identity]:
    """The identities of a file as `age-keygen` writes it. What is wrong with a line is said, the line is not."""
    ensure(len(file) <= IDENTITY_FILE_BYTES_MAX, "NotAnIdentity", "the file is too long")
    ensure(not file.startswith(VERSION_LINE), "NotAnIdentity", "the file is encrypted", "decrypt it with age first")
    try:
        lines = [line.strip() for line in file.decode("utf-8").split("\n")]
    except UnicodeDecodeError:
        raise FormatError("NotAnIdentity", "the file is not UTF-8") from None
    found = [
        Identity(_identity_secret(line, f"line {number}"))
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]
    ensure(len(found) > 0, "NotAnIdentity", "the file has none")
    return found


def _identity_secret(text: str, place: str) -> bytes:
    """The 32 bytes of an identity: Bech32 in upper case, padded by four zero bits."""
    prefix = BECH32_PREFIX.upper() + "1"
    sound = text.isascii() and text == text.upper() and text.startswith(prefix)
    ensure(sound, "NotAnIdentity", place)
    digits = [BECH32_DIGITS.find(c) for c in text[len(prefix) :].lower()]
    ensure(len(digits) == KEY_DIGITS + CHECKSUM_DIGITS and min(digits) >= 0, "NotAnIdentity", place)
    ensure(_bech32_checksum(digits) == 1, "NotAnIdentity", f"{place}: the checksum is wrong")
    number = 0
    for digit in digits[:KEY_DIGITS]:
        number = number << 5 | digit
    ensure(number & 0b1111 == 0, "NotAnIdentity", place)
    return (number >> 4).to_bytes(KEY_BYTES, "big")


def _bech32_checksum(digits: list[int]) -> int:
    high = [ord(c) >> 5 for c in BECH32_PREFIX]
    low = [ord(c) & 31 for c in BECH32_PREFIX]
    checksum = 1
    for digit in [*high, 0, *low, *digits]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ digit
        for bit, term in enumerate(BECH32_TERMS):
            if top >> bit & 1:
                checksum ^= term
    return checksum


@dataclass(frozen=True)
class Stanza:
    """One wrapping of the file key."""

    arguments: list[bytes]
    body: bytes


@dataclass(frozen=True)
class AgeFile:
    """The parts of an age file. `signed` is what `mac` is over."""

    stanzas: list[Stanza]
    signed: bytes
    mac: bytes
    nonce: bytes
    payload: bytes


def open_envelope(envelope: bytes, owners: list[Identity]) -> bytes:
    """The read key in an envelope that is sealed to one of these identities."""
    file = _parse(envelope)
    file_key = _file_key(file.stanzas, owners)
    expected = hmac.digest(_hkdf(file_key, b"", b"header"), file.signed, "sha256")
    ensure(hmac.compare_digest(expected, file.mac), "EnvelopeMalformed", "its header was changed")
    try:
        cipher = ChaCha20Poly1305(_hkdf(file_key, file.nonce, b"payload"))
        read_key = cipher.decrypt(LAST_CHUNK, file.payload, b"")
    except InvalidTag:
        raise FormatError("EnvelopeMalformed", "its payload was changed") from None
    ensure(len(read_key) == KEY_BYTES, "EnvelopeContent")
    return read_key


def _parse(envelope: bytes) -> AgeFile:
    ensure(len(envelope) <= ENVELOPE_BYTES_MAX, "EnvelopeMalformed", f"longer than {ENVELOPE_BYTES_MAX} bytes")
    lines = _Lines(envelope)
    ensure(next(lines) == VERSION_LINE, "EnvelopeMalformed", "no age file of version 1")
    stanzas = []
    for line in lines:
        if line.startswith(b"--- "):
            break
        stanzas.append(_stanza(line, lines))
    signed = envelope[: lines.start + len(b"---")]
    mac = _unpadded(line[len(b"--- ") :])
    nonce, payload = _split(envelope[lines.at :], PAYLOAD_NONCE_BYTES)
    ensure(len(nonce) == PAYLOAD_NONCE_BYTES, "EnvelopeMalformed", "it ends early")
    # So an envelope to a passphrase, which must stand alone, is none of this format either.
    types = {stanza.arguments[0] for stanza in stanzas}
    ensure(b"scrypt" not in types, "EnvelopeMalformed", "it is sealed to a passphrase")
    ensure(b"X25519" in types, "EnvelopeMalformed", "it has no X25519 recipient")
    return AgeFile(stanzas, signed, mac, nonce, payload)


class _Lines(Iterator[bytes]):
    """The lines of a header; `start` is where the latest began, `at` where the next does."""

    def __init__(self, envelope: bytes):
        self.envelope = envelope
        self.start = self.at = 0

    def __next__(self) -> bytes:
        end = self.envelope.find(b"\n", self.at)
        ensure(end >= 0, "EnvelopeMalformed", "its header ends early")
        self.start, self.at = self.at, end + 1
        return self.envelope[self.start : end]


def _stanza(line: bytes, lines: _Lines) -> Stanza:
    """A stanza: `-> ` and arguments, full rows of base64, and a last one that is shorter."""
    arguments = line[len(b"-> ") :].split(b" ")
    plain = all(argument and all(33 <= byte <= 126 for byte in argument) for argument in arguments)
    ensure(line.startswith(b"-> ") and plain, "EnvelopeMalformed", "a stanza is malformed")
    body = b""
    for row in lines:
        ensure(len(row) <= ROW_CHARS, "EnvelopeMalformed", "a stanza is malformed")
        body += row
        if len(row) < ROW_CHARS:
            break
    return Stanza(arguments, _unpadded(body))


def _file_key(stanzas: list[Stanza], owners: list[Identity]) -> bytes:
    wrapped = [stanza for stanza in stanzas if stanza.arguments[0] == b"X25519"]
    for owner in owners:
        for stanza in wrapped:
            wrapping_key = _wrapping_key(_share(stanza), owner)
            try:
                return ChaCha20Poly1305(wrapping_key).decrypt(bytes(12), stanza.body, b"")
            except InvalidTag:
                continue
    raise FormatError("WrongIdentity")


def _share(stanza: Stanza) -> bytes:
    sound = len(stanza.arguments) == 2 and len(stanza.body) == FILE_KEY_BYTES + 16
    ensure(sound, "EnvelopeMalformed", "an X25519 stanza is malformed")
    share = _unpadded(stanza.arguments[1])
    ensure(len(share) == KEY_BYTES, "EnvelopeMalformed", "an X25519 stanza is malformed")
    return share


def _wrapping_key(share: bytes, owner: Identity) -> bytes:
    try:
        secret = owner.private.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise FormatError("EnvelopeMalformed", "a share of low order") from None
    return _hkdf(secret, share + owner.recipient, X25519_INFO)


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def _unpadded(text: bytes) -> bytes:
    """Base64 of RFC 4648 without padding, in its one spelling."""
    try:
        decoded = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise FormatError("EnvelopeMalformed", "base64 is malformed") from None
    again = base64.b64encode(decoded).rstrip(b"=")
    ensure(again == text, "EnvelopeMalformed", "base64 is malformed")
    return decoded


def _split(data: bytes, at: int) -> tuple[bytes, bytes]:
    return data[:at], data[at:]
