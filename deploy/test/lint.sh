#!/usr/bin/env bash
# Checks what deploy/ holds without running it: the unit, the alerts with their tests, the dashboard,
# the image's recipe, the compose file, the Kubernetes manifests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/test/require.sh

# How exposed systemd may find the unit: 0.0 is locked in, 10.0 is not bound at all.
readonly EXPOSURE_MAX=2.6
readonly EXPOSURE_UNPRIVILEGED_MAX=1.9

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf 'deploy: %s\n' "$*"; }
fail() {
	printf 'deploy: %s\n' "$*" >&2
	exit 1
}

# usage: exposure UNIT MAX
exposure() {
	systemd-analyze security --offline=true --threshold="$(tr -d . <<<"$2")" "$1" >"$work/exposure" ||
		fail "the unit is exposed by more than $2: $(grep -E '^✗|Overall' "$work/exposure")"
	tail -n1 "$work/exposure"
}

lint_unit() {
	local unit=$work/backup-agent.service
	# The program that it starts need not be here.
	sed 's|^ExecStart=.*|ExecStart=/bin/true|; s|^Documentation=.*||' \
		deploy/systemd/backup-agent.service >"$unit"
	systemd-analyze verify --man=no "$unit"
	exposure "$unit" "$EXPOSURE_MAX"
	cat deploy/systemd/unprivileged.conf >>"$unit"
	exposure "$unit" "$EXPOSURE_UNPRIVILEGED_MAX"
}

lint_alerts() {
	local promtool
	promtool=$(scripts/promtool.sh)
	"$promtool" check config deploy/monitoring/prometheus.yml
	"$promtool" test rules deploy/monitoring/alerts_test.yml
	# An alert that no test sees firing may never fire.
	local alert
	sed -n 's/^ *- alert: //p' deploy/monitoring/alerts.yml | while read -r alert; do
		grep -A1 "alertname: $alert\$" deploy/monitoring/alerts_test.yml | grep -q exp_alerts ||
			fail "no test sees $alert firing"
	done
}

lint_dashboard() {
	local dashboard=deploy/monitoring/dashboard.json
	jq --exit-status '[.panels[].id] | length > 0 and length == (unique | length)' "$dashboard" >/dev/null ||
		fail "two panels of the dashboard have one number"
	jq --exit-status 'all(.panels[].targets[]; .datasource.uid == "${datasource}")' "$dashboard" >/dev/null ||
		fail "a panel of the dashboard has a data source of its own"
	# promtool reads questions in rules only.
	jq '{groups: [{name: "dashboard", rules: [[.panels[].targets[].expr] | to_entries[]
		| {record: "question:\(.key)", expr: (.value | gsub("\\$__rate_interval"; "5m"))}]}]}' \
		"$dashboard" >"$work/dashboard.yml"
	"$(scripts/promtool.sh)" check rules "$work/dashboard.yml" 2>&1 |
		grep -E 'SUCCESS: [1-9]' || fail "a question of the dashboard is not understood"
}

lint_containers() {
	local tools
	tools=$(scripts/venv.sh deploy deploy/test/requirements.txt)/bin
	"$tools/yamllint" --strict --config-file deploy/test/yamllint.yml deploy
	"$tools/hadolint" deploy/docker/Dockerfile
	"$tools/check-jsonschema" --builtin-schema vendor.compose-spec deploy/docker/compose.yaml
	"$tools/kubernetes-validate" --strict deploy/kubernetes/agent.yaml
}

lint_alerts
lint_dashboard
lint_containers
require systemd-analyze
lint_unit
say "all is well"
