#!/usr/bin/env bash
# Builds the image of deploy/docker/Dockerfile and runs it as the compose file does: its own steps, on a
# Debian that is fetched for it. Only the compiling is left out, which takes half an hour: the programs are
# those of a folder.
#
# usage: deploy/test/image.sh FOLDER
#   FOLDER  where `backup-agent` and `backup` are, as target/debug
#
# No registry is asked, and no daemon is needed: buildah works in a folder that is gone afterwards. Needs
# buildah and debootstrap, and is passed over without root, leave to mount, or a Debian mirror.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/test/require.sh

readonly PROGRAMS=${1:?the folder with the programs}
readonly SUITE=bookworm
readonly BASE=docker.io/library/debian:$SUITE-slim
readonly MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
readonly STATE=/var/lib/backup-agent
# The user of the host's QEMU, in the place of the image's own.
readonly USER_OF_QEMU=64055:64055
# Largest image, in MiB, without the programs, which have their debugging symbols here.
readonly SIZE_MIB_MAX=450

say() { printf 'image: %s\n' "$*"; }
fail() {
	printf 'image: %s\n' "$*" >&2
	exit 1
}

require buildah curl debootstrap jq
[[ $EUID -eq 0 ]] || pass_over "it needs root"
unshare --mount --pid --fork mount -t proc proc /proc 2>/dev/null || pass_over "it needs leave to mount"
curl --silent --fail --location --max-time 30 --output /dev/null "$MIRROR/dists/$SUITE/Release" ||
	pass_over "it needs a Debian mirror, and $MIRROR does not answer"

work=$(mktemp -d)
agent=
cleanup() {
	[[ -z $agent ]] || kill -- "-$agent" 2>/dev/null || true
	wait
	buildah_ rm --all >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap cleanup EXIT

# Layers are copies: no file system of the kernel's is asked for.
buildah_() {
	command buildah --root "$work/images" --runroot "$work/run" --storage-driver vfs "$@"
}

# What the image is made from, by the name that its recipe has for it.
make_base() {
	debootstrap --variant=minbase "$SUITE" "$work/base" "$MIRROR" >"$work/log" 2>&1 ||
		{ tail -n5 "$work/log" >&2; fail "no Debian could be fetched from $MIRROR"; }
	local container
	container=$(buildah_ from scratch)
	buildah_ add --quiet "$container" "$work/base" / >/dev/null
	buildah_ commit --quiet --rm "$container" "$BASE" >/dev/null
	rm -rf "$work/base"
}

# The recipe, with the programs in the place of the stage that compiles them.
recipe() {
	printf 'FROM scratch AS build\nCOPY backup-agent backup /source/target/release/\n'
	sed -n '/^FROM debian:/,$p' deploy/docker/Dockerfile
}

build() {
	mkdir "$work/context"
	cp "$PROGRAMS/backup-agent" "$PROGRAMS/backup" "$work/context/"
	strip "$work/context/backup-agent" "$work/context/backup"
	recipe >"$work/context/Dockerfile"
	grep -q '^FROM debian:bookworm-slim$' "$work/context/Dockerfile" || fail "the recipe has another base"
	buildah_ build --isolation chroot --format docker --pull-never --tag agent "$work/context" \
		>"$work/log" 2>&1 || { tail -n20 "$work/log" >&2; fail "the image cannot be built"; }
}

# usage: of_image FIELD   of the image's configuration
of_image() { buildah_ inspect --type image agent | jq --compact-output ".Docker.config.$1"; }

expect() {
	local found
	found=$(of_image "$1")
	[[ $found == "$2" ]] || fail "$1 of the image is $found, not $2"
}

# Run a command as the compose file does: another user, and nothing to write to but its folder.
inside() {
	buildah_ run --isolation chroot --user "$USER_OF_QEMU" --volume "$work/state:$STATE" \
		--env "BACKUP_AGENT_LISTEN=127.0.0.1:$port" "$container" -- "$@"
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

say "making a Debian for it to stand on"
make_base
say "building it"
build
expect User '"10001:10001"'
expect Entrypoint '["backup-agent"]'
expect Cmd '["run"]'
expect Volumes "{\"$STATE\":{}}"

container=$(buildah_ from --pull-never agent)
root=$(buildah_ mount "$container")
size=$(du -sm --exclude "$root/usr/local/bin/backup*" "$root" | cut -f1)
[[ $size -le $SIZE_MIB_MAX ]] || fail "it has $size MiB, and may have $SIZE_MIB_MAX"
port=$(free_port)
install -d -m 700 -o "${USER_OF_QEMU%:*}" -g "${USER_OF_QEMU#*:}" "$work/state"
[[ $(inside id -u) == "${USER_OF_QEMU%:*}" ]] || fail "it does not run as the user that it is given"
[[ $(inside backup-agent init) == *age1* ]] || fail "it made no identity"
[[ $(stat -c %u:%g "$work/state/secret") == "$USER_OF_QEMU" ]] || fail "the secret is somebody else's"
inside qemu-img --version >/dev/null || fail "it has no qemu-img"
inside backup --version >/dev/null || fail "it has no command"
# In a group of its own, so that all of it can be told to end.
set -m
inside backup-agent run >"$work/agent.log" 2>&1 &
agent=$!
set +m
for _ in {1..300}; do
	kill -0 "$agent" 2>/dev/null || { cat "$work/agent.log" >&2; fail "the agent ended"; }
	inside curl --silent --fail "http://127.0.0.1:$port/healthz" >/dev/null 2>&1 && break
	sleep 0.2
done
# The question of the image's own health check, at the port that it has here.
asked=$(of_image Healthcheck.Test | jq --raw-output '.[1:] | join(" ")')
# shellcheck disable=SC2086
[[ $(inside ${asked/:9955/:$port}) == ok ]] || fail "its health check fails: $asked"
kill -- "-$agent"
wait "$agent" || true
agent=
if inside curl --silent "http://127.0.0.1:$port/healthz" >/dev/null 2>&1; then
	fail "the agent did not end"
fi
say "it was built and run: $size MiB beside the programs"
