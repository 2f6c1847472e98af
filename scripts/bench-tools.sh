#!/usr/bin/env bash
# Installs what ours is compared with, where it is missing: borg and restic from Debian, rustic from
# its crate into TOOLS. What cannot be installed is named, and left out of the comparison.
# usage: bench-tools.sh TOOLS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly RUSTIC=0.11.4
tools=${1:?say where rustic may be installed}

if [[ -f /etc/debian_version && $EUID -eq 0 ]]; then
	missing=()
	for pair in borg:borgbackup restic:restic /usr/bin/time:time; do
		command -v "${pair%%:*}" > /dev/null || missing+=("${pair#*:}")
	done
	if ((${#missing[@]})); then
		echo "bench: installing ${missing[*]}"
		apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
			"${missing[@]}" > /dev/null
	fi
fi
if ! PATH="$tools/bin:$PATH" command -v rustic > /dev/null; then
	echo "bench: building rustic $RUSTIC, which takes minutes"
	cargo install --quiet --locked --no-default-features --root "$tools" \
		"rustic-rs@$RUSTIC" || echo "bench: rustic could not be built"
fi
command -v /usr/bin/time > /dev/null ||
	{ echo "bench: /usr/bin/time is missing; install GNU time" >&2; exit 1; }
