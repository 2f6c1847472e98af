#!/usr/bin/env bash
# Builds the agent's test program `daemon`, as `make unit` does, and prints its path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

program=$(cargo test --locked --workspace --exclude backup-e2e --test daemon --no-run --message-format=json |
	jq -r 'select(.target.name? == "daemon") | .executable // empty' | tail -n1)
[[ -x $program ]] || {
	printf 'daemon: cargo built no such test\n' >&2
	exit 1
}
printf '%s\n' "$program"
