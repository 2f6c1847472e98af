#!/usr/bin/env bash
# Back one disk up twice, with 1,100 writes of 64 KiB in between, and restore it: ours as the disk of
# a running machine, and each peer that is installed (borg, restic, rustic) as a file.
# usage: bench-peers.sh IMAGE FOLDER [ROUNDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image=$(realpath "${1:?say which image}")
folder=$(realpath "${2:?say where there is room for three times the image}")
rounds=${3:-3}
work=$(mktemp -d "$folder/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export BORG_PASSPHRASE=bench RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench
export BORG_BASE_DIR="$work/borg-home" XDG_CACHE_HOME="$work/cache"

cargo=$(command -v cargo)
bench() { XDG_CACHE_HOME= "$cargo" bench -q --locked -p backup-agent --bench backup -- "$@"; }

# Seconds and most MiB of a command that ends with its output on the disk.
measure() {
	local name=$1 phase=$2
	shift 2
	/usr/bin/time -f "%e %M" -o "$work/time" bash -c "$* && sync -f '$work'" > "$work/out" 2>&1 ||
		{ cat "$work/out" >&2; exit 1; }
	read -r seconds kib < "$work/time"
	printf '%-8s %-8s %8.1f s  peak %4d MiB\n' "$name" "$phase" "$seconds" $((kib / 1024))
}

stored() { echo "  $(du -sb "$1" | cut -f1) bytes in the repository"; }

peer() {
	local name=$1 repo="$work/$1" restored="$work/restored"
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
		restore="restic dump -q -r $repo latest $changed > $restored"
		;;
	rustic)
		rustic -r "$repo" init > /dev/null 2>&1
		first="rustic -r $repo backup $image"
		second="rustic -r $repo backup $changed"
		restore="rustic -r $repo dump latest:$changed > $restored"
		;;
	esac
	cat "$image" > /dev/null
	measure "$name" first "$first"
	stored "$repo"
	cat "$changed" > /dev/null
	measure "$name" second "$second"
	stored "$repo"
	measure "$name" restore "$restore"
	cmp "$restored" "$changed"
	rm -rf "$repo" "$restored"
}

changed="$work/changed.img"
for round in $(seq "$rounds"); do
	echo "== round $round"
	cp --sparse=always "$image" "$changed"
	# Who reads it finds it in the page cache.
	cat "$changed" > /dev/null
	bench machine "$changed" "$work"
	for name in borg restic rustic; do
		if command -v "$name" > /dev/null; then
			peer "$name"
		else
			echo "$name: not installed, skipped"
		fi
	done
done
