# shellcheck shell=bash
# A throw-away copy of this machine with its own systemd, to install packages into. To be sourced.
#
# An overlay lies over the root file system, in memory, and systemd-nspawn boots what it shows: in
# its own process and network namespaces, with loopback only. Nothing of it reaches this machine.
# Root and Debian's `systemd-container` are needed.

# What this machine does not give, if anything. No setup could.
machine_lacks() {
	[[ $EUID -eq 0 ]] || { echo "root"; return; }
	unshare --mount true 2>/dev/null || { echo "leave to mount"; return; }
	modprobe --quiet overlay 2>/dev/null || true
	grep -qw overlay /proc/filesystems || echo "overlay file systems"
}

# usage: machine_boot [FOLDER...]   folders of this machine that it sees, which are not on its root
machine_boot() {
	machine_folder=$(mktemp -d)
	machine_root=$machine_folder/root
	mkdir "$machine_folder/memory" "$machine_root"
	mount -t tmpfs -o size=2G tmpfs "$machine_folder/memory"
	mkdir "$machine_folder/memory/upper" "$machine_folder/memory/work"
	mount -t overlay overlay "$machine_root" \
		-o "lowerdir=/,upperdir=$machine_folder/memory/upper,workdir=$machine_folder/memory/work"
	tr -d - </proc/sys/kernel/random/uuid >"$machine_root/etc/machine-id"
	# Where services must not start, as in images of machines, there they may.
	rm -f "$machine_root/usr/sbin/policy-rc.d"
	systemd-nspawn --quiet --boot --directory="$machine_root" --machine="copy-$$" \
		--register=no --keep-unit --private-network --console=pipe "${@/#/--bind-ro=}" \
		systemd.unit=basic.target >"$machine_folder/log" 2>&1 </dev/null &
	machine_nspawn=$!
	for _ in {1..600}; do
		kill -0 "$machine_nspawn" 2>/dev/null || break
		machine_leader=$(pgrep -P "$machine_nspawn" | head -n1) || true
		# It waits until everything has been started, once there is somebody to ask.
		case $(machine_run systemctl is-system-running --wait 2>/dev/null) in
			running | degraded) return ;;
		esac
		sleep 0.1
	done
	cat "$machine_folder/log" >&2
	return 1
}

# Run a command in it.
machine_run() {
	[[ -n ${machine_leader:-} ]] || return
	nsenter --target "$machine_leader" --all -- env -i \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive HOME=/root "$@"
}

# All files and folders that have been written in it.
machine_changes() { find "$machine_folder/memory/upper" -mindepth 1 -printf '/%P\n' | sort; }

machine_halt() {
	[[ -n ${machine_folder:-} ]] || return 0
	kill -TERM "$machine_nspawn" 2>/dev/null || true
	# One that has not come far enough to hear it is ended all the same.
	timeout 30 tail --pid="$machine_nspawn" -f /dev/null || kill -KILL "$machine_nspawn"
	wait "$machine_nspawn" || true
	umount "$machine_root" "$machine_folder/memory" 2>/dev/null || true
	rm -rf --one-file-system "$machine_folder"
	machine_folder=
}
