#!/usr/bin/env bash
# Back one disk up twice, with 1,100 writes of 64 KiB in between, and restore it: ours as the disk of
# a running machine and, for the first backup, as a file; each peer that is installed (borg, restic,
# rustic, or those that PEERS names) as a file. Its figures go to FOLDER/figures; ends with their
# table.
# usage: bench-peers.sh IMAGE FOLDER [ROUNDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image=$(realpath "${1:?say which image}")
folder=$(realpath "${2:?say where there is room for three times the image}")
rounds=${3:-3}
work=$(mktemp -d "$folder/bench.XXXXXX")
: > "$folder/figures"
trap 'rm -rf "$work"' EXIT
export BORG_PASSPHRASE=bench RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench
export BORG_BASE_DIR="$work/borg-home" XDG_CACHE_HOME="$work/cache"

# Built once, so that no round waits for a compiler.
program=$(XDG_CACHE_HOME='' cargo bench --locked -p backup-agent --bench backup --no-run 2>&1 \
	| sed -n 's/^ *Executable .* (\(.*\))$/\1/p')
program=$(realpath "${program:?cargo did not say what it built}")
bench() { "$program" --bench "$@"; }

# Seconds of a command, with its output on the disk and before, and its most MiB.
measure() {
	local name=$1 phase=$2 begin seconds kib synced
	shift 2
	begin=$EPOCHREALTIME
	/usr/bin/time -f "%e %M" -o "$work/time" bash -c "$*" > "$work/out" 2>&1 ||
		{ cat "$work/out" >&2; exit 1; }
	sync -f "$work"
	synced=$(awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $begin }")
	read -r seconds kib < "$work/time"
	printf '%-8s %-8s %8.1f s, on the disk %8.1f s  peak %4d MiB\n' \
		"$name" "$phase" "$seconds" "$synced" $((kib / 1024))
	note "$name" "$phase" "$synced"
	note "$name" "$phase-written" "$seconds"
	note "$name" peak $((kib / 1024))
}

# Keep a figure of this round for the table.
note() { echo "$1 $2 $3" >> "$folder/figures"; }

stored() {
	local bytes
	bytes=$(du -sb "$2" | cut -f1)
	echo "  $bytes bytes in the repository"
	note "$1" "$3" $((bytes / 1000000))
}

# What `bench machine` printed, as figures.
note_ours() {
	awk '
		/^first backup/ { print "live first", $3 }
		/^second backup/ { print "live second", $3 }
		/^restore, written/ { print "live restore-written", $3 }
		/^restore, synced/ { print "live restore", $3 }
		/bytes in the store/ { stored[++count] = $1 }
		/ peak / { print "live peak", $(NF - 1) }
		END {
			print "live stored", int(stored[1] / 1000000)
			print "live added", int((stored[2] - stored[1]) / 1000000)
		}' "$1" >> "$folder/figures"
}

peer() {
	local name=$1 repo="$work/$1" restored="$work/restored/disk"
	mkdir "$work/restored"
	case $name in
	borg)
		borg init -e repokey-blake2 "$repo" 2> /dev/null
		first="borg create -C zstd,3 --read-special $repo::1 $image"
		second="borg create -C zstd,3 --read-special $repo::2 $changed"
		restore="borg extract --stdout $repo::2 > $restored"
		;;
	restic)
		restic init -q -r "$repo"
		first="restic backup -q -r $repo $image"
		second="restic backup -q -r $repo $changed"
		restored="$work/restored/$changed"
		restore="restic restore -q -r $repo latest --target $work/restored"
		;;
	rustic)
		rustic -r "$repo" init > /dev/null 2>&1
		first="rustic -r $repo backup $image"
		second="rustic -r $repo backup $changed"
		restore="rustic -r $repo restore latest:$changed $restored"
		;;
	esac
	cat "$image" > /dev/null
	measure "$name" first "$first"
	stored "$name" "$repo" stored
	local before=$(( $(du -sb "$repo" | cut -f1) / 1000000 ))
	cat "$changed" > /dev/null
	measure "$name" second "$second"
	echo "  $(du -sb "$repo" | cut -f1) bytes in the repository"
	note "$name" added $(( $(du -sb "$repo" | cut -f1) / 1000000 - before ))
	find "$repo" -type f -exec cat {} + > /dev/null
	measure "$name" restore "$restore"
	cmp "$restored" "$changed"
	rm -rf "$repo" "$work/restored"
}

changed="$work/changed.img"
for round in $(seq "$rounds"); do
	echo "== round $round"
	cp --sparse=always "$image" "$changed"
	# Who reads it finds it in the page cache.
	cat "$changed" > /dev/null
	bench image "$image" "$work" | tee "$work/ours"
	awk '/^first backup/ { print "file first", $3 }' "$work/ours" >> "$folder/figures"
	cat "$changed" > /dev/null
	bench machine "$changed" "$work" | tee "$work/ours"
	note_ours "$work/ours"
	for name in ${PEERS:-borg restic rustic}; do
		if command -v "$name" > /dev/null; then
			peer "$name"
		else
			echo "$name: not installed, skipped"
		fi
	done
done

scripts/bench-table.sh "$folder/figures"
