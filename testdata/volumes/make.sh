#!/usr/bin/env bash
# Makes the disks in this folder: a volume group over a partition of one disk and all of another,
# as the tools of LVM2 write it. Needs root, loop devices, and the Debian packages e2fsprogs, fdisk,
# lvm2 and zstd. Volumes are never activated, so no device mapper is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

work=$(mktemp -d)
trap 'losetup --detach "$one" "$two" 2>/dev/null || true; rm -rf "$work"' EXIT
truncate --size 8M "$work/vda" "$work/vdb"
printf 'label: gpt\nstart=2048, name=data, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n' |
	sfdisk --quiet "$work/vda"
one=$(losetup --show --find --offset $((2048 * 512)) --sizelimit $((6 * 1024 * 1024)) "$work/vda")
two=$(losetup --show --find "$work/vdb")
no_udev=(--config 'activation{udev_sync=0 udev_rules=0} devices{obtain_device_list_from_udev=0}')
quiet() { lvm "$@" "${no_udev[@]}" >/dev/null 2>&1 || lvm "$@" "${no_udev[@]}"; }
quiet pvcreate "$one" "$two"
quiet vgcreate --physicalextentsize 128K vg0 "$one" "$two"
# Logical volumes are added to the text of the group, which the tools check and write.
quiet vgcfgbackup --file "$work/text" vg0
pv() { grep -B 3 "\"$1\"" "$work/text" | grep -o 'pv[0-9]'; }
segment() { # name, first extent, extents, stripes
	printf 'segment%d { start_extent=%d extent_count=%d type="striped" stripe_count=%d %s\n' "$@"
}
volume() { # name, id, segments
	printf '%s { id="%s" status=["READ","WRITE","VISIBLE"] flags=[] segment_count=%d\n' "$@"
}
{
	sed '/^}/Q' "$work/text"
	echo 'logical_volumes {'
	volume root 000000-0000-0000-0000-0000-0000-000001 2
	segment 1 0 20 1 "stripes=[\"$(pv "$two")\",0] }"
	segment 2 20 12 1 "stripes=[\"$(pv "$one")\",0] } }"
	volume striped 000000-0000-0000-0000-0000-0000-000002 1
	segment 1 0 4 2 "stripe_size=128 stripes=[\"$(pv "$one")\",12,\"$(pv "$two")\",20] } }"
	echo '} }'
	sed '1,/^}/d' "$work/text"
} >"$work/more"
quiet vgcfgrestore --file "$work/more" vg0
# The file system of vg0/root, cut as its two segments are.
mkdir "$work/tree"
head -c 2500000 /dev/zero | tr '\0' 'x' >"$work/tree/long"
echo 'hello from a logical volume' >"$work/tree/hello"
mkfs.ext4 -q -O ^has_journal -d "$work/tree" "$work/root" 4M
pe_start() { lvm pvs --noheadings --nosuffix --units b -o pe_start "$1" "${no_udev[@]}"; }
dd if="$work/root" of="$two" bs=64K count=$((20 * 2)) oflag=seek_bytes seek="$(pe_start "$two" | tr -d ' ')" status=none
dd if="$work/root" of="$one" bs=64K skip=$((20 * 2)) oflag=seek_bytes seek="$(pe_start "$one" | tr -d ' ')" status=none
sync
for disk in vda vdb; do zstd -q -f -19 "$work/$disk" -o "lvm-$disk.zst"; done
