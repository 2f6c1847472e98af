"""Identities and envelopes that do not serve. All of them end with the code for keys."""

from __future__ import annotations

import unittest
from pathlib import Path

from .support import ReaderTest
from . import writer

from backup_format.age import identities, open_envelope

FILE_KEY = bytes(range(16))
READ_KEY = bytes([8]) * 32
GOOD = writer.identity_text(writer.OWNER)


class Identities(ReaderTest):
    def refuse(self, content: bytes) -> None:
        with self.assert_class("NotAnIdentity"):
            identities(content)

    def test_what_a_file_may_hold(self) -> None:
        content = f"# created: today\r\n\n  \n{GOOD}\r\n#x\n \t{GOOD} \n{GOOD}"
        self.assertEqual(len(identities(content.encode())), 3)

    def test_the_vector_of_bech32(self) -> None:
        """The encoder of these tests is no third; this identity is the example of age's specification."""
        identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
        self.assertEqual(writer.identity_text(bytes([0x42]) * 32), identity)
        (found,) = identities(identity.encode())
        self.assertEqual(found.recipient, writer.recipient(bytes([0x42]) * 32))

    def test_what_no_identity_is(self) -> None:
        self.refuse(b"")
        self.refuse(b"# nothing\n\n")
        self.refuse(b"\xff\xfe")
        self.refuse(GOOD.encode("utf-16"))
        self.refuse(GOOD.lower().encode())
        self.refuse(GOOD.replace("AGE", "Age").encode())
        self.refuse(GOOD[:-1].encode())
        self.refuse((GOOD + "Q").encode())
        self.refuse((GOOD[:20] + ("Q" if GOOD[20] != "Q" else "P") + GOOD[21:]).encode())
        self.refuse((GOOD[:30] + "B" + GOOD[31:]).encode())
        self.refuse((GOOD + " " + GOOD).encode())
        self.refuse(b"AGE-SECRET-KEY-PQ-1" + GOOD[16:].encode())
        self.refuse(b"age1" + GOOD[16:].lower().encode())
        self.refuse(b"AGE-PLUGIN-YUBIKEY-1QQQ")
        self.refuse(f"{GOOD}\nsomething\n".encode())
        self.refuse(b"#" * 70_000 + b"\n" + GOOD.encode())
        with self.assertRaisesRegex(Exception, "^NotAnIdentity: .*encrypted"):
            identities(writer.seal_envelope(READ_KEY, [writer.recipient(writer.OWNER)]))

    def test_letters_that_fold_to_others(self) -> None:
        """The sign of the kelvin is upper case, and its lower case is the letter k."""
        identity = next(text for text in map(writer.identity_text, (bytes([n]) * 32 for n in range(256))) if "K" in text[16:])
        self.refuse((identity[:16] + identity[16:].replace("K", "\u212a")).encode())

    def test_bits_that_pad(self) -> None:
        padded = bech32_of_bits("".join(f"{byte:08b}" for byte in writer.OWNER) + "0001")
        self.refuse(padded.encode())

    def test_identities_of_another_length(self) -> None:
        for count in (0, 8, 31, 33, 64):
            self.refuse(bech32_of_bits("00000001" * count + "0" * (-8 * count % 5)).encode())
        self.refuse(bech32_of_bits("").encode())

    def test_the_longest_file(self) -> None:
        line = f"\n{GOOD}".encode()
        self.assertEqual(len(identities(b"#" * (65_536 - len(line)) + line)), 1)
        self.refuse(b"#" * (65_537 - len(line)) + line)

    def test_a_secret_is_never_repeated(self) -> None:
        root = self.roots.write([self.objects.write("vda", b"x")], [])
        self.key.write_text(GOOD[:-1] + "\n")
        outcome = self.restore(self.car(root), "--root", root)
        self.assert_fails("NotAnIdentity", 6, outcome)
        self.assertNotIn(GOOD[16:24], outcome.err)


def bech32_of_bits(bits: str) -> str:
    """An identity of bits that are none: found by its checksum, which has 30 bits of its own."""
    digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    prefix = "age-secret-key-"
    state = 1
    values = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values + [0] * 6:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for number, term in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
            state ^= term * (top >> number & 1)
    checksum = [(state ^ 1) >> shift & 31 for shift in (25, 20, 15, 10, 5, 0)]
    return (prefix + "1" + "".join(digits[value] for value in values + checksum)).upper()


class Envelopes(ReaderTest):
    def setUp(self) -> None:
        super().setUp()
        self.owners = identities(GOOD.encode())
        self.mine = writer.x25519_stanza(FILE_KEY, writer.recipient(writer.OWNER))
        self.good = writer.seal_envelope(READ_KEY, [writer.recipient(writer.OWNER)])

    def refuse(self, name: str, envelope: bytes) -> None:
        with self.assert_class(name):
            open_envelope(envelope, self.owners)

    def test_stanzas_of_others_are_skipped(self) -> None:
        others = [writer.x25519_stanza(FILE_KEY, writer.recipient(bytes([number]) * 32)) for number in (5, 6)]
        unknown = [writer.stanza([b"new", b"a", b"!~"], bytes(length)) for length in (0, 1, 47, 48, 49, 96)]
        envelope = writer.age_file(FILE_KEY, [*unknown, *others, self.mine, *unknown], READ_KEY)
        self.assertEqual(open_envelope(envelope, self.owners), READ_KEY)

    def test_cut_anywhere(self) -> None:
        for length in range(len(self.good)):
            self.refuse("EnvelopeMalformed", self.good[:length])
        self.refuse("EnvelopeMalformed", self.good + b"\0")

    def test_any_byte_changed(self) -> None:
        for at in range(len(self.good)):
            for bit in (1, 0x20, 0x80):
                changed = self.good[:at] + bytes([self.good[at] ^ bit]) + self.good[at + 1 :]
                with self.assertRaisesRegex(Exception, "^(EnvelopeMalformed|WrongIdentity): "):
                    open_envelope(changed, self.owners)

    def test_sealed_to_others(self) -> None:
        self.refuse("WrongIdentity", writer.seal_envelope(READ_KEY, [writer.recipient(writer.STRANGER)]))

    def test_not_of_this_format(self) -> None:
        scrypt = writer.stanza([b"scrypt", b"c2FsdA", b"18"], bytes(32))
        self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [scrypt], READ_KEY))
        self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [scrypt, self.mine], READ_KEY))
        self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [], READ_KEY))
        self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [writer.stanza([b"new"], b"")], READ_KEY))
        self.refuse("EnvelopeMalformed", b"-----BEGIN AGE ENCRYPTED FILE-----\n")
        self.refuse("EnvelopeMalformed", self.good.replace(b"/v1", b"/v2", 1))
        self.refuse("EnvelopeMalformed", self.good.replace(b"\n", b"\r\n"))

    def test_other_contents(self) -> None:
        for content in (b"", bytes(31), bytes(33), bytes(1000)):
            self.refuse("EnvelopeContent", writer.age_file(FILE_KEY, [self.mine], content))

    def test_malformed_stanzas(self) -> None:
        share = writer.unpadded(writer.recipient(bytes([7]) * 32))
        for wrong in (
            b"-> \n\n",
            b"->\n\n",
            b"-> new  two\n\n",
            b"-> new \n\n",
            b"-> n\xc3\xbc\n\n",
            b"new\n\n",
            b"-> new\n" + b"A" * 68 + b"\n\n",
            b"-> new\n" + b"A" * 64 + b"\n",
            b"-> new\nAAA=\n",
            b"-> new\nA\n",
            b"-> new\nAB\n",
            b"-> new\n-_-_\n",
            b"-> new\nAA AA\n",
            writer.stanza([b"X25519"], bytes(32)),
            writer.stanza([b"X25519", share, share], bytes(32)),
            writer.stanza([b"X25519", share], bytes(31)),
            writer.stanza([b"X25519", share], bytes(33)),
            writer.stanza([b"X25519", share[:-2]], bytes(32)),
            writer.stanza([b"X25519", share + b"="], bytes(32)),
            writer.stanza([b"X25519", writer.unpadded(bytes(32))], bytes(32)),
        ):
            with self.subTest(wrong):
                self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [wrong, self.mine], READ_KEY))

    def test_another_file_key(self) -> None:
        stanza = writer.x25519_stanza(bytes(16), writer.recipient(writer.OWNER))
        self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [stanza], READ_KEY))

    def test_the_longest(self) -> None:
        most = writer.age_file(FILE_KEY, [writer.stanza([b"x" * 3859], b""), self.mine], READ_KEY)
        self.assertEqual(len(most), 4096)
        self.assertEqual(open_envelope(most, self.owners), READ_KEY)
        self.refuse("EnvelopeMalformed", writer.age_file(FILE_KEY, [writer.stanza([b"x" * 3860], b""), self.mine], READ_KEY))


class Commands(ReaderTest):
    """What the program makes of them."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.objects.write("vda", b"content")
        self.root = self.roots.write([self.disk], [])
        self.read_key = self.roots.read_key

    def later(self, content: bytes) -> Path:
        path = self.folder / "later.age"
        path.write_bytes(content)
        return path

    def test_a_wrong_identity(self) -> None:
        self.key = self.write_key("stranger.key", writer.STRANGER)
        self.assert_fails("WrongIdentity", 6, self.restore(self.car(self.root), "--root", self.root))

    def test_an_envelope_of_another_root(self) -> None:
        other = writer.seal_envelope(READ_KEY, [writer.recipient(writer.STRANGER)])
        self.key = self.write_key("stranger.key", writer.STRANGER)
        outcome = self.restore(self.car(self.root), "--root", self.root, "--envelope", self.later(other))
        self.assert_fails("WrongKey", 6, outcome)
        self.assertIn("later.age", outcome.err)

    def test_a_later_envelope_that_is_none(self) -> None:
        self.key = self.write_key("stranger.key", writer.STRANGER)
        for content in (b"", b"x", bytes(5000)):
            outcome = self.restore(self.car(self.root), "--root", self.root, "--envelope", self.later(content))
            self.assert_fails("EnvelopeMalformed", 6, outcome)

    def test_a_damaged_envelope_of_the_root_alone(self) -> None:
        self.roots.envelope = lambda root: {**root, "envelope": root["envelope"][:-1]}
        root = self.roots.write([self.disk], [])
        self.assert_fails("EnvelopeMalformed", 6, self.restore(self.car(root), "--root", root))

    def test_the_root_is_not_blamed_on_the_envelope(self) -> None:
        """A root that opens and is wrong inside is no matter of keys."""
        self.roots.header = lambda header: {**header, "consistency": 9}
        root = self.roots.write([self.disk], [])
        later = self.later(writer.seal_envelope(self.roots.read_key, [writer.recipient(writer.OWNER)]))
        outcome = self.restore(self.car(root), "--root", root, "--envelope", later)
        self.assert_fails("Inconsistent", 7, outcome)


if __name__ == "__main__":
    unittest.main()
