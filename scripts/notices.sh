#!/usr/bin/env bash
# Prints the licences of everything that is linked into the agent and the command, as those ask for who
# passes binaries on: each text once, below the crates that it came with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PROGRAMS=(-p backup-agent -p backup)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Name and version of each crate; ours have paths and are left out.
linked() {
	cargo tree --locked "${PROGRAMS[@]}" --edges normal --prefix none --format '{p}' |
		grep -v ' (/' | sed 's/ v/ /; s/ (.*//' | sort -u
}

linked >"$work/linked"
cargo metadata --locked --format-version 1 |
	jq -r '.packages[] | "\(.name) \(.version)\t\(.license // "see its licence file")\t\(.manifest_path)"' |
	sort >"$work/all"
echo "The agent and the command of pallet-backup contain these crates:"
echo
while IFS=$'\t' read -r crate licence manifest; do
	grep -qxF "$crate" "$work/linked" || continue
	echo "$crate: $licence"
	find "$(dirname "$manifest")" -maxdepth 1 -type f \
		\( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) | sort |
		while read -r text; do
			sum=$(sha256sum <"$text" | cut -d' ' -f1)
			cp "$text" "$work/$sum.text"
			echo "$crate" >>"$work/$sum.crates"
		done
done <"$work/all"
for crates in "$work"/*.crates; do
	printf '\n%s\n%s:\n\n' "$(printf -- '-%.0s' {1..80})" "$(paste -sd, "$crates" | sed 's/,/, /g')"
	cat "${crates%.crates}.text"
done
