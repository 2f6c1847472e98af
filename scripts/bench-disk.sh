#!/usr/bin/env bash
# Make a disk of 10 GiB like a server's: an ext4 file system with a distribution's files and 600 MiB
# that do not compress. The files are those of this machine, so two machines have two disks.
# usage: bench-disk.sh IMAGE [FOLDER...]
set -euo pipefail

image=${1:?say where the image goes}
shift
[ $# -gt 0 ] || set -- /usr/lib /usr/bin /usr/include /usr/libexec /usr/local

mkdir -p "$(dirname "$image")"
files=$(mktemp -d "$(dirname "$image")/files.XXXXXX")
trap 'rm -rf "$files"' EXIT
for folder in "$@"; do
	cp -a --reflink=auto "$folder" "$files/"
done
head -c 600M /dev/urandom > "$files/random"
rm -f "$image"
truncate -s 10G "$image"
mke2fs -q -t ext4 -d "$files" "$image"
