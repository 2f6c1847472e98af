#!/usr/bin/env bash
# Feeds arbitrary bytes to each reader of bytes from outside, FUZZ_SECONDS each. Needs
# `cargo install --locked cargo-fuzz` and a nightly toolchain. What crashes lies in
# fuzz/artifacts afterwards: put it into testdata/fuzz, where the tests look at it for ever.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v cargo-fuzz > /dev/null; then
	echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2
	exit 1
fi
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz"
for folder in testdata/fuzz/*/; do
	name="$(basename "$folder")"
	mkdir -p "$target/corpus/$name"
	cargo +nightly fuzz run --target-dir "$target" "$name" "$target/corpus/$name" "$folder" -- \
		-max_total_time="${FUZZ_SECONDS:-60}" -max_len=65536 -rss_limit_mb=1024 -timeout=10 \
		-verbosity=0 -print_final_stats=1
done
rm -rf /dev/shm/backup-fuzz-*
