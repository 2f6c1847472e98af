#!/usr/bin/env bash
# Installs the packages into a throw-away copy of this machine and runs the agent from them, under the
# unit as it is shipped. Then upgrades, removes and purges them, and looks for leftovers.
#
# usage: deploy/test/package.sh FOLDER [TESTS]
#   FOLDER  where `backup-agent` and `backup` are, as target/debug
#   TESTS   the agent's test program `daemon`, which is then run within the unit's limits:
#           snapshots, restores and hooks of machines that run and that are off
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/test/machine.sh
source deploy/test/require.sh

readonly UNIT=backup-agent
readonly URL=http://127.0.0.1:9955
readonly STATE=/var/lib/backup-agent
# What changes by itself in a machine that runs, and where dpkg keeps its books.
readonly RESTLESS='^/(dev|proc|run|sys|tmp)(/|$)|^/var/(log|tmp|cache/(ldconfig|man)|lib/(dpkg|systemd))(/|$)'

say() { printf 'package: %s\n' "$*"; }
fail() {
	printf 'package: %s\n' "$*" >&2
	machine_run journalctl --no-pager --quiet --unit "$UNIT" --lines 40 >&2 || true
	exit 1
}

# usage: expect WHAT IT-SHOULD-BE COMMAND...
expect() {
	local what=$1 wanted=$2 found
	shift 2
	found=$(machine_run "$@" 2>&1) || true
	[[ $found == "$wanted" ]] || fail "$what: expected '$wanted', found '$found'"
}

property() { machine_run systemctl show --value --property "$1" "$UNIT"; }

# What it has that this machine has not.
files() {
	local path
	machine_changes | grep -vE "$RESTLESS" | while read -r path; do
		[[ -d $path ]] || printf '%s\n' "$path"
	done
}

install_packages() { machine_run dpkg --install /packages/backup-agent.deb /packages/backup-cli.deb; }

ask() {
	machine_run curl --silent --fail --retry 60 --retry-delay 1 --retry-connrefused \
		--max-time 60 "$URL$1"
}

starts_only_when_told() {
	local said
	said=$(install_packages 2>&1) || fail "the packages cannot be installed: $said"
	grep -q '^recipient  age1' <<<"$said" || fail "the installation did not make an identity: $said"
	expect "enabled at once" disabled systemctl is-enabled "$UNIT"
	expect "started at once" inactive systemctl is-active "$UNIT"
	expect "mode of the identity" "600 root" stat -c '%a %U' "$STATE/identity"
	expect "mode of the state folder" 700 stat -c %a "$STATE"
	machine_run backup-agent check-config --config /etc/backup-agent/agent.toml >/dev/null ||
		fail "the shipped configuration is refused"
	machine_run backup --version >/dev/null || fail "the command does not run"
	say "installed; it waits to be started"
}

# Not whether they are in place: a machine may be set up to install no manual pages.
explains_itself() {
	local contents page shell
	contents=$(dpkg-deb --contents "$packages/backup-cli.deb")
	for page in backup backup-restore backup-key-new backup-governance-propose-set; do
		grep -q "/usr/share/man/man1/$page\.1\.gz$" <<<"$contents" || fail "the package has no manual page $page"
	done
	dpkg-deb --fsys-tarfile "$packages/backup-cli.deb" |
		tar --extract --to-stdout ./usr/share/man/man1/backup-restore.1.gz | gunzip |
		grep -q -- '\\-\\-identity' || fail "the manual page of 'backup restore' has no --identity"
	for shell in zsh/vendor-completions/_backup fish/vendor_completions.d/backup.fish; do
		machine_run grep -q restore-file "/usr/share/$shell" || fail "/usr/share/$shell completes no verb"
	done
	machine_run bash -c "source /usr/share/bash-completion/completions/backup && complete -p backup" >/dev/null ||
		fail "bash does not complete the command"
	say "manual pages and completions are there"
}

runs() {
	machine_run systemctl enable --now --quiet "$UNIT" || fail "the agent does not start"
	[[ $(ask /healthz) == ok ]] || fail "/healthz does not say ok"
	ask /metrics | grep -q '^backup_agent_store_available_bytes ' || fail "/metrics has no store"
	local status process
	process=$(property MainPID)
	machine_run systemctl reload "$UNIT" || fail "the agent cannot be told to read its configuration"
	[[ $(ask /healthz) == ok ]] || fail "the agent does not answer after a reload"
	expect "process after a reload" "$process" systemctl show --value --property MainPID "$UNIT"
	status=$(machine_run cat "/proc/$(property MainPID)/status")
	[[ $status == *$'\nNoNewPrivs:\t1\n'* && $status == *$'\nSeccomp:\t2\n'* ]] ||
		fail "the unit's limits are not in force: $status"
	say "runs, answers, and is bound to its unit's limits"
}

# usage: override FILE-OF-SETTINGS, or nothing to take them away again. The agent does not run then.
override() {
	local folder=/run/systemd/system/$UNIT.service.d
	machine_run systemctl stop "$UNIT"
	machine_run rm -rf "$folder"
	if [[ $# -gt 0 ]]; then
		machine_run mkdir -p "$folder"
		machine_run tee "$folder/test.conf" <"$1" >/dev/null
	fi
	machine_run systemctl daemon-reload
}

needs_no_privilege_where_it_is_the_machines_user() {
	machine_run chown -R daemon: "$STATE"
	sed 's/=qemu$/=daemon/' deploy/systemd/unprivileged.conf >"$work/user.conf"
	override "$work/user.conf"
	machine_run systemctl start "$UNIT" || fail "the agent does not start as another user"
	[[ $(ask /healthz) == ok ]] || fail "the agent does not answer as another user"
	local status
	status=$(machine_run cat "/proc/$(property MainPID)/status")
	grep -qE $'^CapBnd:\t0+$' <<<"$status" || fail "it has capabilities: $status"
	expect "its user" daemon ps -o user= "$(property MainPID)"
	override
	machine_run chown -R root: "$STATE"
	machine_run systemctl start "$UNIT"
	say "runs as another user without any privilege"
}

# What operations.md tells of hooks that need more than the unit allows.
lets_hooks_out() {
	cat >"$work/hook.conf" <<-UNIT
		[Service]
		Type=oneshot
		Restart=no
		ExecStart=
		ExecStart=/usr/bin/systemd-run --quiet --wait --collect /usr/bin/touch /etc/hook-was-here
	UNIT
	override "$work/hook.conf"
	machine_run systemctl start "$UNIT" || fail "a hook does not get out by systemd-run"
	machine_run rm /etc/hook-was-here || fail "a hook that was let out did nothing"
	override
	machine_run systemctl start "$UNIT"
	say "a hook gets out of the limits by systemd-run"
}

# The agent's own tests are the unit's program for once. They start agents, and QEMU as well, which
# writes machine code at run time where there is no KVM: that limit alone is lifted. These are the tests
# of all that reaches out to machines, but for one whose disks need more than this machine's memory.
works_within_its_limits() {
	cat >"$work/tests.conf" <<-UNIT
		[Service]
		Type=oneshot
		Restart=no
		ExecStart=
		ExecStart=/tests --skip cut_short live_restores:: machines:: replacements:: running:: snapshots::
		Environment=TMPDIR=/var/tmp
		ProtectHome=tmpfs
		BindReadOnlyPaths=$program
		MemoryDenyWriteExecute=no
		TimeoutStartSec=15min
	UNIT
	override "$work/tests.conf"
	machine_run systemctl start "$UNIT" || fail "the agent's tests fail within the unit's limits"
	local passed
	passed=$(machine_run journalctl --no-pager --quiet --output cat --unit "$UNIT" --grep '^test result: ok')
	override
	machine_run systemctl start "$UNIT"
	say "within its unit's limits: ${passed:?no test was run}"
}

is_restarted_by_an_upgrade() {
	local before identity
	before=$(property MainPID)
	identity=$(machine_run sha256sum "$STATE/identity")
	machine_run sed -i 's/^#jobs_max = 2/jobs_max = 3/' /etc/backup-agent/agent.toml
	install_packages >/dev/null 2>&1 || fail "the packages cannot be upgraded"
	[[ $(ask /healthz) == ok ]] || fail "no agent answers after an upgrade"
	[[ $(property MainPID) != "$before" ]] || fail "an upgrade leaves the old agent running"
	expect "the identity after an upgrade" "$identity" sha256sum "$STATE/identity"
	expect "the configuration after an upgrade" "jobs_max = 3" grep ^jobs_max /etc/backup-agent/agent.toml
	say "an upgrade restarts it, and changes neither keys nor configuration"
}

leaves_nothing_behind() {
	machine_run systemctl stop "$UNIT"
	expect "how it ended" "success 0" sh -c \
		"systemctl show --value --property Result --property ExecMainStatus $UNIT | sort -r | xargs"
	machine_run dpkg --remove backup-agent backup-cli >/dev/null 2>&1 || fail "it cannot be removed"
	machine_run test -s "$STATE/identity" || fail "removing took the identity away"
	machine_run dpkg --purge backup-agent backup-cli >/dev/null 2>&1 || fail "it cannot be purged"
	local left
	left=$(diff <(echo "$1") <(files) || true)
	[[ -z $left ]] || fail "a purge leaves: $left"
	say "removed without a trace"
}

keeps_what_it_was_given_to_keep() {
	install_packages >/dev/null 2>&1
	machine_run touch "$STATE/keys/owner.node.age"
	machine_run dpkg --purge backup-agent backup-cli >/dev/null 2>&1
	machine_run test -s "$STATE/identity" || fail "a purge took the keys of backups away"
	say "a purge keeps backups and their keys"
}

binaries=$(realpath "$1")
tests=${2:+$(realpath "${2:-}")}
program=$binaries/backup-agent
require dpkg-buildpackage lintian systemd-nspawn
lacks=$(machine_lacks)
[[ -z $lacks ]] || pass_over "this needs $lacks"
work=$(mktemp -d)
trap 'machine_halt; rm -rf "$work"' EXIT
packages=$work/packages
# Packed in seconds, not small.
DPKG_DEB_COMPRESSOR_TYPE=gzip DPKG_DEB_COMPRESSOR_LEVEL=1 scripts/deb.sh "$binaries" "$packages"
for package in backup-agent backup-cli; do
	mv "$packages/${package}"_*.deb "$packages/$package.deb"
done
lintian --fail-on error,warning --allow-root "$packages"/*.deb
machine_boot "$packages:/packages" ${tests:+"$tests:/tests" "$program"}
before=$(files)
starts_only_when_told
explains_itself
runs
needs_no_privilege_where_it_is_the_machines_user
lets_hooks_out
[[ -z $tests ]] || works_within_its_limits
is_restarted_by_an_upgrade
leaves_nothing_behind "$before"
keeps_what_it_was_given_to_keep
