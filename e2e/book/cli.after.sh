# What came back is what was on the machine's disk, by every way.
for image in disk.raw then.raw guest.raw /var/lib/backup-agent/restored/*/vda.qcow2 disk.qcow2; do
	qemu-img compare "$image" /var/lib/machines/web-1.raw
done
[[ $(qemu-img info --output json disk.qcow2 | jq -r .format) == qcow2 ]]
[[ $(cat home/hello.txt) == 'not to be lost' ]]
for event in SnapshotRequested SnapshotHeld SnapshotReleased SnapshotDeletionRequested DeletionCancelled; do
	grep "$event" "$LOGS/watch.log"
done
grep -q restore-file ~/.local/share/bash-completion/completions/backup
[[ -f ~/.local/share/man/man1/backup-restore.1 ]]
