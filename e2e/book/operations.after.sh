# Two machines can be started from the snapshot, and the one that was found is described.
for image in /var/lib/machines/web.qcow2 /var/lib/machines/web-2/vda.qcow2; do [[ -f $image ]]; done
backup-agent live-restore list --json | jq --exit-status '[.[].vm] | sort == ["web", "web-2"]'
grep -q 'uuid = "c0ffee00-0000-8000-8000-000000000007"' /var/lib/backup-agent/vms/db.toml
