#!/usr/bin/env bash
# Runs two commands at once. What the first says is shown when both are over, so that their words do
# not mix. When one fails the other is ended, and so is this, with the same code.
#
# usage: scripts/side-by-side.sh COMMAND COMMAND
set -uo pipefail

log=$(mktemp)
# Each has a process group of its own, to be ended as a whole.
set -m
bash -c "$1" > "$log" 2>&1 &
first=$!
bash -c "$2" &
second=$!
set +m

end() {
	kill -- "-$first" "-$second" 2> /dev/null
	wait
	cat "$log"
	rm -f "$log"
	exit "$1"
}
trap 'end 130' INT
trap 'end 143' TERM

wait -n -p over "$first" "$second" || end $?
[ "$over" = "$first" ] && other=$second || other=$first
wait "$other" || end $?
end 0
