"""The snapshot that the agent wrote once: `testdata/vectors/snapshot-v1`, whose README says what
it holds."""

from __future__ import annotations

import unittest
from pathlib import Path

from .support import ReaderTest

FOLDER = Path(__file__).resolve().parents[3] / "testdata" / "vectors" / "snapshot-v1"


def disk() -> bytes:
    state, noise = 1, bytearray()
    for _ in range(4000):
        state = (state * 6364136223846793005 + 1) % (1 << 64)
        noise.append(state >> 56)
    content = bytearray(20 * 1024 * 1024 + 777)
    content[:262144] = (b"backup " * 37450)[:262144]
    for at in (3, 70):
        content[at * 262144 : at * 262144 + 4000] = noise
    last = b"the last bytes of a chunk that is not full"
    content[20 * 1024 * 1024 + 700 : 20 * 1024 * 1024 + 700 + len(last)] = last
    return bytes(content)


class Golden(ReaderTest):
    def restored(self, identity: str, *chosen: str) -> bytes:
        self.output.unlink(missing_ok=True)
        done = self.run_reader(
            "restore", FOLDER / "snapshot.car", "--root", (FOLDER / "root").read_text().strip(),
            "--identity", FOLDER / identity, "--output", self.output, *chosen,
        )  # fmt: skip
        self.assertEqual(done.exit_code, 0, done.err)
        return self.output.read_bytes()

    def test_its_disk_comes_back_to_owner_and_node(self) -> None:
        for identity in ("owner.key", "node.key"):
            self.assertTrue(self.restored(identity, "--disk", "vda") == disk(), identity)

    def test_its_empty_disk_and_its_blob_come_back(self) -> None:
        self.assertEqual(self.restored("owner.key", "--disk", "vdb"), bytes(5000))
        self.assertEqual(self.restored("owner.key", "--blob", "machine.toml"), b'uuid = "none"\n')


if __name__ == "__main__":
    unittest.main()
