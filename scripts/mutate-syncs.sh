#!/usr/bin/env bash
# Proves that every sync of the embedded store is needed: takes one away at a time and expects
# a test to fail. Prints a table and fails if all tests pass without one of them.
#
# All of it happens in a copy of the sources. There each sync is made to depend on the
# environment, so that one build serves all mutations.
#
# Left alone is `files.rs`, where syncs become calls of the kernel: what a real disk forgets
# cannot be seen without cutting its power.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly STORE=agent/src/repositories/embedded
readonly TESTS=repositories::embedded::tests
# The tests that catch most come first, to save the time of the others.
readonly FIRST=$TESTS::crash

say() { printf 'mutate-syncs: %s\n' "$*"; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
copy=$scratch/sources
mkdir "$copy"
# With their times, so that cargo builds only what was mutated.
git ls-files -z --cached --others --exclude-standard |
	tar --create --null --ignore-failed-read --files-from=- | tar --extract --directory="$copy"
cd "$copy"
# Another version, or cargo would take the mutated program for the one of the checkout.
sed -i 's/^version\.workspace = true/version = "0.0.0-mutant"/' agent/Cargo.toml

# Gives each sync a number, in the order of files and lines. A durable commit of the index is
# mutated by asking redb for one that is not.
declare -a places=()
mutate() {
	local file=$1 line=$2 text=$3 number=${#places[@]}
	local is_off="std::env::var(\"MUTANT\").as_deref() == Ok(\"$number\")"
	sed -i -E \
		-e "${line}s/([A-Za-z_.]+)\.(sync|sync_folder)\(\)/(if $is_off { Ok::<(), std::io::Error>(()) } else { \1.\2() })/" \
		-e "${line}s/let transaction = database\.begin_write\(\)\?;/let mut transaction = database.begin_write()?; if $is_off { transaction.set_durability(redb::Durability::None)?; }/" \
		"$file"
	sed -n "${line}p" "$file" | grep -q MUTANT || { say "$file:$line is not understood" >&2; exit 1; }
	places+=("$(basename "$file"):$line  $(sed -E 's/^\s+//' <<<"$text")")
}
while IFS=: read -r file line text; do
	mutate "$file" "$line" "$text"
done < <(grep -nE '\.(sync|sync_folder)\(\)|\.begin_write\(\)' "$STORE"/*.rs | grep -v '/files\.rs:')
[ "${#places[@]}" -gt 0 ] || { say "no sync was found" >&2; exit 1; }

say "building ${#places[@]} mutations"
tests=$(cargo test --quiet --offline -p backup-agent --lib --no-run --message-format=json |
	sed -nE 's/.*"executable":"([^"]*backup_agent-[^"]*)".*/\1/p' | tail -n 1)
cp "$tests" "$scratch/tests"

run() { (cd agent && MUTANT=$1 timeout 900 "$scratch/tests" --quiet "$2" >"$scratch/log" 2>&1); }

run none "$TESTS" || { cat "$scratch/log" >&2; say "the tests fail without a mutation" >&2; exit 1; }
survivors=0
for number in "${!places[@]}"; do
	if run "$number" "$FIRST" && run "$number" "$TESTS"; then
		survivors=$((survivors + 1))
		printf 'SURVIVES  %s\n' "${places[$number]}"
	else
		caught=$(grep -c '^    repositories::' "$scratch/log" || true)
		printf 'caught    %s  (%s tests)\n' "${places[$number]}" "$caught"
	fi
done
[ "$survivors" = 0 ] || { say "$survivors of ${#places[@]} syncs can go without a test noticing" >&2; exit 1; }
say "each of ${#places[@]} syncs is needed"
