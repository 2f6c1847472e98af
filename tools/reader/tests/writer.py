"""Seals small snapshots for the tests, as docs/format.md says a writer does.

It shares no code with the reader but `Cid` and `Geometry`: blocks are encoded with cbor2. Every
structure can be changed on its way, so that a test makes exactly one thing wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3
import cbor2
import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backup_format.cid import Cid
from backup_format.root import Geometry

K_SIV, K_ENC = bytes([0x11]) * 32, bytes([0x22]) * 32
OWNER, STRANGER = bytes([1]) * 32, bytes([2]) * 32
RAW, DAG_CBOR = 0x55, 0x71
SMALL = Geometry(4096, 2)
Change = Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


def dumps(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def cid_of(block: bytes, codec: int) -> Cid:
    return Cid(bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(block).digest())


def link(cid: bytes) -> cbor2.CBORTag:
    return cbor2.CBORTag(42, b"\0" + cid)


# Section 4


def read_key_of(domain: bytes, additional_data: bytes, payload: bytes) -> bytes:
    siv = blake3.blake3(key=K_SIV)
    for part in (domain, (1).to_bytes(8, "little"), additional_data, payload):
        siv.update(len(part).to_bytes(8, "little") + part)
    return blake3.blake3(b"pallet-backup v1 read key" + siv.digest(), key=K_ENC).digest()


def plaintext_id(domain: bytes, plaintext: bytes) -> bytes:
    key = blake3.blake3(K_SIV, derive_key_context="pallet-backup v1 plaintext id").digest()
    return blake3.blake3(len(domain).to_bytes(8, "little") + domain + plaintext, key=key).digest()[:16]


def seal(domain: bytes, additional_data: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """The sealed bytes of a payload, and their read key."""
    key = read_key_of(domain, additional_data, payload)
    return AESGCM(key).encrypt(bytes(12), payload, additional_data), key


def plain(plaintext: bytes) -> bytes:
    return b"\0" + plaintext


def compressed(plaintext: bytes) -> bytes:
    return b"\1" + zstandard.ZstdCompressor().compress(plaintext)


class Blocks(dict[Cid, bytes]):
    """What was stored."""

    def store(self, block: bytes, codec: int) -> Cid:
        cid = cid_of(block, codec)
        self[cid] = block
        return cid

    def folder(self, path: Path, ending: str = "") -> Path:
        path.mkdir()
        for cid, block in self.items():
            (path / f"{cid}{ending}").write_bytes(block)
        return path

    def car(self, path: Path, roots: list[bytes]) -> Path:
        path.write_bytes(car_header(roots) + b"".join(car_section(*entry) for entry in self.items()))
        return path


# Section 3: objects


class ObjectWriter:
    """Builds the tree of one object. The changes apply to what is sealed next."""

    def __init__(self, blocks: Blocks, geometry: Geometry):
        self.blocks = blocks
        self.geometry = geometry
        self.payload: Change = compressed
        self.node: Change = same
        self.secret: Change = same
        self.node_codec = DAG_CBOR

    def chunk(self, plaintext: bytes) -> dict[str, Any]:
        """The block of a chunk: its CID, key and id."""
        block, key = seal(b"chunk", b"", self.payload(plaintext))
        return {"tree": self.blocks.store(block, RAW), "key": key, "id": plaintext_id(b"chunk", plaintext)}

    def gather(self, children: dict[int, dict[str, Any]]) -> dict[str, Any]:
        """A node over the children at these places."""
        bitmap = bytearray(-(-self.geometry.fan_out // 8))
        for place in children:
            bitmap[place // 8] |= 1 << place % 8
        below = [children[place] for place in sorted(children)]
        secret = self.secret(bytes(bitmap) + b"".join(child["key"] + child["id"] for child in below))
        links = [child["tree"] for child in below]
        sealed, key = seal(b"node", b"".join(links), plain(secret))
        node = {"v": 1, "kind": "node", "links": [link(cid) for cid in links], "sealed": sealed}
        changed = self.node(node)
        block = changed if type(changed) is bytes else dumps(changed)
        return {"tree": self.blocks.store(block, self.node_codec), "key": key, "id": plaintext_id(b"node", secret)}

    def write(self, name: str, content: bytes) -> dict[str, Any]:
        """A whole object, zeros left out."""
        return self.place(name, len(content), pieces(content, self.geometry.chunk_bytes))

    def place(self, name: str, size: int, stored: dict[int, bytes]) -> dict[str, Any]:
        """An object of a size of which only these chunks are stored."""
        row = {index: self.chunk(plaintext) for index, plaintext in stored.items()}
        for _ in range(self.geometry.levels(size)):
            row = self._above(row)
        return {"name": name, "bytes": size, **row.get(0, {})}

    def _above(self, row: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        parents: dict[int, dict[int, dict[str, Any]]] = {}
        for index, child in row.items():
            parent, place = divmod(index, self.geometry.fan_out)
            parents.setdefault(parent, {})[place] = child
        return {parent: self.gather(children) for parent, children in parents.items()}


def pieces(content: bytes, chunk_bytes: int) -> dict[int, bytes]:
    """The chunks of a content that are not all zero."""
    cut = {at // chunk_bytes: content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes)}
    return {index: piece for index, piece in cut.items() if any(piece)}


# Section 3: roots


class RootWriter:
    """Builds a root over objects. The header is sealed to what the clear part is after its change."""

    def __init__(self, blocks: Blocks, geometry: Geometry = SMALL):
        self.blocks = blocks
        self.geometry = geometry
        self.recipients = [recipient(OWNER)]
        self.clear: Change = same
        self.header: Change = same
        self.header_payload: Change = plain
        self.envelope: Change = same
        self.block: Change = same
        self.codec = DAG_CBOR
        self.read_key = b""

    def write(self, disks: list[dict[str, Any]], blobs: list[dict[str, Any]]) -> Cid:
        clear = self.clear(self._clear(disks, blobs))
        header = {
            "disks": [secret_of(one) for one in disks],
            "blobs": [secret_of(one) for one in blobs],
            "consistency": 1,
            "taken_at_ms": 1_790_000_000_000,
        }
        changed = self.header(header)
        plaintext = changed if type(changed) is bytes else dumps(changed)
        sealed, self.read_key = seal(b"root", dumps(clear), self.header_payload(plaintext))
        envelope = seal_envelope(self.read_key, self.recipients)
        root = self.envelope({**clear, "sealed": sealed, "envelope": envelope})
        return self.blocks.store(self.block(dumps(root)), self.codec)

    def _clear(self, disks: list[dict[str, Any]], blobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "v": 1,
            "kind": "root",
            "node": bytes([4, 0, 0, 0]),
            "salt": bytes([7]) * 32,
            "blobs": [head_of(one) for one in blobs],
            "disks": [head_of(one) for one in disks],
            "fan_out": self.geometry.fan_out,
            "genesis": bytes([3]) * 32,
            "request": bytes([5, 0, 0, 0, 0, 0, 0, 0]),
            "sequence": 6,
            "chunk_bytes": self.geometry.chunk_bytes,
        }


def head_of(one: dict[str, Any]) -> dict[str, Any]:
    return {"bytes": one["bytes"], **({"tree": link(one["tree"])} if "tree" in one else {})}


def secret_of(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("id", "key", "name") if key in one}


# Section 5


def recipient(identity: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(identity).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def identity_text(identity: bytes) -> str:
    """Bech32, written from BIP 173 and unlike the reader's."""
    digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = "".join(f"{byte:08b}" for byte in identity) + "0000"
    values = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    prefix = "age-secret-key-"
    state = 1
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for value in expanded + values + [0] * 6:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for number, term in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
            state ^= term * (top >> number & 1)
    state ^= 1
    checksum = [state >> shift & 31 for shift in (25, 20, 15, 10, 5, 0)]
    return (prefix + "1" + "".join(digits[value] for value in values + checksum)).upper()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


def unpadded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def stanza(arguments: list[bytes], body: bytes) -> bytes:
    text = unpadded(body)
    rows = [text[at : at + 64] for at in range(0, len(text) + 1, 64)]
    return b"\n".join([b" ".join([b"->", *arguments]), *rows]) + b"\n"


def x25519_stanza(file_key: bytes, to: bytes) -> bytes:
    ephemeral = os.urandom(32)
    share = recipient(ephemeral)
    secret = X25519PrivateKey.from_private_bytes(ephemeral).exchange(X25519PublicKey.from_public_bytes(to))
    wrap = hkdf(secret, share + to, b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, b"")
    return stanza([b"X25519", unpadded(share)], body)


def age_file(file_key: bytes, stanzas: list[bytes], content: bytes) -> bytes:
    """An age file of these stanzas, whatever they are."""
    signed = b"age-encryption.org/v1\n" + b"".join(stanzas) + b"---"
    mac = hmac.digest(hkdf(file_key, b"", b"header"), signed, "sha256")
    nonce = bytes([9]) * 16
    payload = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\1", content, b"")
    return signed + b" " + unpadded(mac) + b"\n" + nonce + payload


def seal_envelope(read_key: bytes, recipients: list[bytes]) -> bytes:
    file_key = bytes(range(16))
    stanzas = [x25519_stanza(file_key, to) for to in recipients]
    return age_file(file_key, [*stanzas, stanza([b"3-grease", b"x!"], bytes(70))], read_key)


# Section 6.1


def varint(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def car_header(roots: list[bytes]) -> bytes:
    header = dumps({"roots": [link(root) for root in roots], "version": 1})
    return varint(len(header)) + header


def car_section(cid: bytes, block: bytes) -> bytes:
    return varint(len(cid) + len(block)) + cid + block
