#!/usr/bin/env bash
# Makes a machine ready to build and test: system packages, Node.js, and a compiler
# that can build the runtime for WASM. Safe to run again; what is there is left alone.
#
# Installs only on Debian and as root. Elsewhere it installs nothing with the
# package manager, names what is missing, and ends with 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TARGET=wasm32v1-none
readonly DEBIAN_TOOLCHAIN=debian-web
readonly DEBIAN_LIBRARIES=/usr/lib/rustlib/$TARGET/lib
readonly BUILD_PACKAGES=(
	build-essential ca-certificates clang cmake curl git libclang-dev lld make
	pkg-config protobuf-compiler
)
readonly TEST_PACKAGES=(
	busybox-static chromium cpio e2fsprogs fdisk jq libvirt-clients libvirt-daemon
	libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils swtpm xz-utils zstd
)
readonly PACKAGING_PACKAGES=(
	buildah debhelper debootstrap lintian shellcheck systemd systemd-container
)
readonly COMPILER_PACKAGES=(rustc-web cargo-web rust-web-src lld-19)
readonly NODEJS_PACKAGES=(nodejs npm)
readonly NODEJS_VERSION_MIN=20

say() { printf 'setup: %s\n' "$*"; }
fail() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

can_install() { [[ -f /etc/debian_version && $EUID -eq 0 ]]; }

missing_packages() {
	local package
	for package in "$@"; do
		if ! dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii'; then
			printf '%s\n' "$package"
		fi
	done
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages "$@")
	if [[ ${#missing[@]} -eq 0 ]]; then
		return
	fi
	can_install || fail "missing packages: ${missing[*]}; install them (on Debian: apt-get install)"
	say "installing ${missing[*]}"
	local apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
	DEBIAN_FRONTEND=noninteractive "${apt[@]}" update
	DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Other systems have other package names, so there the programs are looked for. Without libvirt or
# chromium their tests are passed over, so that is only said.
require_programs() {
	local program missing=()
	for program in cc clang cmake cpio curl git jq ld.lld make mkfs.ext4 pkg-config protoc \
		qemu-img qemu-system-x86_64 sfdisk swtpm xz zstd; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing+=("$program")
	done
	[[ ${#missing[@]} -eq 0 ]] || fail "missing programs: ${missing[*]}; install what provides them"
	for program in libvirtd virsh; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null ||
			say "$program is missing; tests of libvirt are passed over"
	done
	command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
		say "chromium is missing; the agent's page is not tested in a browser"
}

system_packages() {
	if command -v dpkg-query >/dev/null; then
		install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${PACKAGING_PACKAGES[@]}"
	else
		require_programs
	fi
	say "system packages: present"
}

can_make_venv() {
	python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

# The second reader runs in a virtual environment of whichever Python comes first.
python_venv() {
	if ! can_make_venv && command -v dpkg-query >/dev/null; then
		install_packages python3 python3-venv
	fi
	can_make_venv || fail "python3 is missing, older than 3.10, or cannot make virtual environments"
	say "$(python3 --version): present"
}

debian_nodejs_is_new_enough() {
	local version
	command -v apt-cache >/dev/null || return 1
	version=$(apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: //p')
	[[ -n $version && $version != "(none)" ]] && dpkg --compare-versions "$version" ge "$NODEJS_VERSION_MIN"
}

# What is installed; else the distribution's, if that is new enough; else one that is fetched.
nodejs() {
	local folder
	if ! scripts/nodejs.sh --installed >/dev/null 2>&1 && can_install && debian_nodejs_is_new_enough; then
		install_packages "${NODEJS_PACKAGES[@]}" || say "its packages cannot be installed"
	fi
	folder=$(scripts/nodejs.sh)
	say "Node.js $("$folder/node" --version) in $folder: present"
}

# The target of the pinned compiler, from its own distributor.
add_target_with_rustup() {
	command -v rustup >/dev/null || fail "rustup is missing; see https://rustup.rs"
	say "adding $TARGET with rustup"
	timeout 120 rustup target add "$TARGET" >/dev/null 2>&1 &&
		timeout 120 rustup component add rust-src >/dev/null 2>&1
}

# Debian's compiler brings the source of the libraries, not the libraries for
# the target. Building any crate with `build-std` makes them.
build_debian_libraries() {
	local work
	work=$(mktemp -d)
	mkdir "$work/src"
	printf '#![no_std]\nextern crate alloc;\n#[panic_handler]\nfn panic(_: &core::panic::PanicInfo) -> ! {\n\tloop {}\n}\n' >"$work/src/lib.rs"
	printf '[package]\nname = "sysroot"\nversion = "0.0.0"\nedition = "2021"\n[lib]\ncrate-type = ["rlib"]\n[workspace]\n' >"$work/Cargo.toml"
	(
		cd "$work"
		env -u RUSTUP_TOOLCHAIN -u CARGO_TARGET_DIR \
			RUSTFLAGS="-C embed-bitcode=yes" RUSTC_BOOTSTRAP=1 \
			rustup run "$DEBIAN_TOOLCHAIN" cargo build --quiet --release --target "$TARGET" \
			-Z build-std=core,alloc
	)
	mkdir -p "$DEBIAN_LIBRARIES"
	cp "$work/target/$TARGET/release/deps"/lib{core,alloc,compiler_builtins}-*.rlib "$DEBIAN_LIBRARIES/"
	rm -rf "$work"
}

add_target_with_debian() {
	can_install || fail "rustup could not download $TARGET; run 'rustup target add $TARGET' where it can"
	say "rustup could not download $TARGET; using Debian's own compiler"
	install_packages "${COMPILER_PACKAGES[@]}"
	ln -sfn /usr/bin/lld-19 /usr/local/bin/rust-lld
	rustup toolchain link "$DEBIAN_TOOLCHAIN" /usr
	say "building core and alloc for $TARGET"
	build_debian_libraries
}

wasm_target() {
	local toolchain
	if ! toolchain=$(scripts/wasm-toolchain.sh 2>/dev/null); then
		add_target_with_rustup || add_target_with_debian
		toolchain=$(scripts/wasm-toolchain.sh)
	fi
	say "WASM is built with: $toolchain"
}

system_packages
python_venv
nodejs
wasm_target
say "done"
