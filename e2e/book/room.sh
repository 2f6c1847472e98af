# A computer of its own for the commands of a page, as far as they can tell. To be run in namespaces of
# its own for mounts and the network; what is written to /etc, /run and /var/lib is gone with them.
#
# usage: room.sh FOLDER COMMAND...
set -euo pipefail

room=$1/room
shift
busybox ip link set lo up
mkdir "$room"
mount -t tmpfs tmpfs "$room"
for folder in etc run var/lib; do
	mkdir -p "$room/$folder/upper" "$room/$folder/work"
	mount -t overlay overlay "/$folder" \
		-o "lowerdir=/$folder,upperdir=$room/$folder/upper,workdir=$room/$folder/work"
done
{
	echo 127.0.0.1 localhost
	for number in 1 2 3 4; do echo "127.0.0.$number node-$number.example"; done
} >/etc/hosts
exec "$@"
