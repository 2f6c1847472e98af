# A computer of its own for the commands of a page, as far as they can tell. To be run in namespaces of
# its own for mounts and the network: /etc is a copy, /run and /var/lib are empty, and what is written
# there is gone with them.
#
# usage: room.sh FOLDER COMMAND...
set -euo pipefail

room=$1/room
shift
busybox ip link set lo up
mkdir "$room"
mount -t tmpfs tmpfs "$room"
mkdir "$room/etc" "$room/run" "$room/lib"
# Secrets of this machine cannot be read by all who run tests, and are not needed.
cp -r --preserve=links,mode /etc/. "$room/etc" 2>/dev/null || true
{
	echo 127.0.0.1 localhost
	for number in 1 2 3 4; do echo "127.0.0.$number node-$number.example"; done
} >"$room/etc/hosts"
mount --bind "$room/etc" /etc
mount --bind "$room/run" /run
mount --bind "$room/lib" /var/lib
exec "$@"
