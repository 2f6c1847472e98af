#!/usr/bin/env bash
# Measures what the pallet's calls cost on the reference runtime, and writes
# src/weights/measured.rs. Needs `cargo install --locked frame-omni-bencher` and a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v frame-omni-bencher > /dev/null; then
	echo "frame-omni-bencher is missing: cargo install --locked frame-omni-bencher" >&2
	exit 1
fi
# A target of its own: the runtime with benchmarks must not be taken for the one without.
target="${CARGO_TARGET_DIR:-target}/weights"
CARGO_TARGET_DIR="$target" \
	cargo build --locked -p backup-runtime --features runtime-benchmarks
frame-omni-bencher v1 benchmark pallet \
	--runtime "$target/debug/wbuild/backup-runtime/backup_runtime.wasm" \
	--genesis-builder-preset=development \
	--pallet pallet_backup --extrinsic "*" \
	--steps "${STEPS:-20}" --repeat "${REPEAT:-10}" \
	--template scripts/weights.hbs --output src/weights/measured.rs
