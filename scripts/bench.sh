#!/usr/bin/env bash
# Measure what the project's goals of speed name, in one run on one machine: beside the peers, as the
# disk grows, what a guest notices, and a copy to another node. Ends with the table of goals; why one
# is missed stands in docs/performance.md. Takes forty minutes on 2 cores and 45 GB of the disk.
# usage: bench.sh FOLDER [ROUNDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p "${1:?say where there is room for 45 GB}"
folder=$(realpath "$1")
rounds=${2:-3}
figures=$folder/figures

scripts/bench-tools.sh "$folder/tools"
export PATH="$folder/tools/bin:$PATH"
scripts/bench-disk.sh "$folder/disk.img"
scripts/bench-peers.sh "$folder/disk.img" "$folder" "$rounds"
rm "$folder/disk.img"

echo "== as the disk grows"
cargo bench --quiet --locked -p backup-agent --bench backup -- growth "$folder" | tee "$folder/said"
awk '
	/^== / { size = $2 }
	/^second backup/ { print "grown second-" size, $3 }
	/ peak / { print "grown peak", $(NF - 1) }' "$folder/said" >> "$figures"

# The agent as it is delivered; guest and node are only what it works for.
cargo build --quiet --release --locked -p backup-agent
agent=${CARGO_TARGET_DIR:-target}/release/backup-agent
for pace in full 100 10; do
	echo "== what the guest notices, $pace"
	limit=()
	[[ $pace == full ]] || limit=("$pace")
	BACKUP_AGENT_PROGRAM=$agent cargo run --quiet --locked -p backup-e2e --bin guest_latency -- \
		"${limit[@]}" | tee "$folder/said"
	awk -v pace="$pace" '
		{ for (i = 1; i < NF; i++) if ($i == "p99") p99 = $(i + 1) }
		/^without a backup/ { print "guest p99-without-" pace, p99 }
		/^while all is read/ { print "guest p99-" pace, p99 }' "$folder/said" >> "$figures"
done

echo "== a copy to another node"
cargo bench --quiet --locked -p backup-agent --bench pull -- 2800 1000 "$folder" | tee "$folder/said"
awk '/^first snapshot/ { print "pull rate", $(NF - 1) }' "$folder/said" >> "$figures"
rm "$folder/said"

echo
scripts/bench-table.sh "$figures"
