#!/usr/bin/env bash
# Makes the guest that the demonstration and the end-to-end tests boot: Debian's
# cloud kernel, and an initramfs of busybox, QEMU's guest agent, a handful of modules,
# `e2e/guest/init` and `e2e/guest/latency.rs`. Nothing is installed; all of it lands in `target/guest/`
# (or in $GUEST_CACHE). Run again, it does nothing until one of its sources changes.
#
# Writes `vmlinuz` and `initramfs`, each put in place whole.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CACHE=${GUEST_CACHE:-target/guest}
readonly META_PACKAGE=linux-image-cloud-amd64
readonly AGENT_PACKAGE=qemu-guest-agent
readonly INIT=e2e/guest/init
readonly LATENCY=e2e/guest/latency.rs
# In the order they are loaded. What the kernel has built in is left out.
readonly MODULES=(virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk virtio_console)

say() { printf 'guest: %s\n' "$*"; }
fail() {
	printf 'guest: %s\n' "$*" >&2
	exit 1
}

require() {
	local program
	for program in "$@"; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null ||
			fail "$program is missing; run scripts/setup.sh"
	done
}

# The meta package names the newest kernel; that one is fetched.
kernel_package() {
	apt-cache depends "$META_PACKAGE" 2>/dev/null |
		awk '/Depends: linux-image-/ { print $2; exit }'
}

ensure_lists() {
	[[ -z $(kernel_package) ]] || return 0
	[[ $EUID -eq 0 ]] || fail "no package lists; run 'apt-get update' as root"
	apt-get -qq -o DPkg::Lock::Timeout=300 update
	[[ -n $(kernel_package) ]] || fail "no package $META_PACKAGE in the package lists"
}

# What a package holds, in a folder.
unpack() {
	say "fetching $1"
	mkdir "$2.deb"
	(cd "$2.deb" && apt-get -qq -o APT::Sandbox::User=root download "$1")
	dpkg-deb -x "$2.deb"/*.deb "$2"
}

download_kernel() {
	ensure_lists
	unpack "$(kernel_package)" "$work/kernel"
	rm -rf "$CACHE/modules"
	mv "$work/kernel/lib/modules" "$CACHE/modules"
	mv "$work"/kernel/boot/vmlinuz-* "$CACHE/vmlinuz"
}

download_agent() {
	ensure_lists
	unpack "$AGENT_PACKAGE" "$work/agent"
	mv "$work/agent/usr/sbin/qemu-ga" "$CACHE/qemu-ga"
}

# With the libraries of the host's that it needs, QEMU's own for the most part.
copy_agent() {
	local library libraries
	libraries=$(ldd "$CACHE/qemu-ga")
	[[ $libraries != *'not found'* ]] || fail "the guest agent lacks a library: $libraries"
	cp "$CACHE/qemu-ga" "$1/bin/qemu-ga"
	grep -o '/[^ ]*' <<<"$libraries" | while read -r library; do
		mkdir -p "$1${library%/*}"
		cp -L "$library" "$1$library"
	done
}

copy_modules() {
	local name file builtin
	builtin=$(find "$CACHE/modules" -name modules.builtin)
	for name in "${MODULES[@]}"; do
		file=$(find "$CACHE/modules" -name "$name.ko" -print -quit)
		if [[ -n $file ]]; then
			cp "$file" "$1/"
			printf '%s.ko\n' "$name" >>"$1/order"
		else
			grep -q "/$name.ko" "$builtin" || fail "the kernel has no module $name"
		fi
	done
}

build_initramfs() {
	local root=$work/root
	mkdir -p "$root"/{bin,data,dev,modules,proc,run,sys}
	cp "$(command -v busybox)" "$root/bin/busybox"
	rustc --edition 2024 -O -C target-feature=+crt-static -o "$root/bin/latency" "$LATENCY"
	cp "$INIT" "$root/init"
	chmod 755 "$root/init"
	: >"$root/modules/order"
	copy_modules "$root/modules"
	copy_agent "$root"
	(cd "$root" && find . -print0 | LC_ALL=C sort -z |
		cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) |
		gzip -n >"$work/initramfs"
	mv "$work/initramfs" "$CACHE/initramfs"
}

# What the guest is made of; a change of any of it makes the guest anew.
fingerprint() {
	{
		cat "$INIT" "$LATENCY" scripts/guest.sh
		stat -c '%s %Y' "$(command -v busybox)" "$CACHE/vmlinuz" "$CACHE/qemu-ga"
	} | sha256sum
}

require apt-cache apt-get awk busybox cpio dpkg-deb gzip rustc
mkdir -p "$CACHE"
# Two builds at once would write over each other.
exec 9>"$CACHE/lock"
flock 9
if [[ -f $CACHE/initramfs && -f $CACHE/vmlinuz && -f $CACHE/qemu-ga && $(fingerprint) == "$(cat "$CACHE/made-of" 2>/dev/null)" ]]; then
	exit 0
fi
work=$(mktemp -d "$CACHE/work.XXXXXX")
work=$(realpath "$work")
trap 'rm -rf "$work"' EXIT
[[ -f $CACHE/vmlinuz ]] || download_kernel
[[ -f $CACHE/qemu-ga ]] || download_agent
build_initramfs
fingerprint >"$CACHE/made-of"
say "kernel and initramfs are in $CACHE"
