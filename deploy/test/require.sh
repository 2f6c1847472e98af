# shellcheck shell=bash
# What a check cannot do without. To be sourced by one that has `say` and `fail`.

# usage: require PROGRAM...   programs that scripts/setup.sh installs
#
# Where one is missing the check is passed over and said to be, or, with REQUIRE_ALL=1, it fails.
require() {
	local program
	for program; do
		command -v "$program" >/dev/null && continue
		[[ ${REQUIRE_ALL:-} != 1 ]] || fail "$program is missing, which scripts/setup.sh installs"
		pass_over "it needs $program"
	done
}

# usage: pass_over WHY   ends the check, for want of what no setup gives
pass_over() {
	say "PASSED OVER: $1"
	exit 0
}
