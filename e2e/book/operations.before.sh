# What is there when an operator looks something up: an agent that runs and a node that is registered, `web`,
# which is off and has a snapshot, `mail`, whose control socket belongs to somebody else, and a machine that
# runs and that no file describes.
source "$REPOSITORY/e2e/book/host.sh" <<END
jobs_max = 4
END
run_agent
echo //Alice >"$played/operator"
echo //Bob >"$played/owner"
backup node register --id 1 --secret-file "$played/operator" --authority-secret-file "$played/operator" \
	--recipient "$(backup-agent recipient --config /etc/backup-agent/agent.toml)"
backup subscribe --periods 1 --secret-file "$played/owner"
backup request create --disk-bytes 67108864 --secret-file "$played/owner"
backup request assign 0 --to 1 --secret-file "$played/operator"
backup key new --output "$played/owner.key"
backup key register --identity "$played/owner.key" --secret-file "$played/owner"

mkdir -p /run/machines/{web,mail,guest-7}
for name in web mail guest-7; do qemu-img create -q -f qcow2 "/var/lib/machines/$name.qcow2" 64M; done
qemu-io -c 'write -P 7 1M 1M' /var/lib/machines/web.qcow2
describe() {
	cat >"/var/lib/backup-agent/vms/$1.toml" <<-END
		uuid = "$2"
		qmp = "/run/machines/$1/backup.sock"

		[[disk]]
		name = "vda"
		image = "/var/lib/machines/$1.qcow2"
		format = "qcow2"
	END
}
describe web "$(backup request tag 0)"
backup request fulfil 0 --vm web --secret-file "$played/operator"
# No other snapshot than the first.
backup cadence 100000 --secret-file "$played/owner"
until backup root 0; do sleep 1; done

# Whoever connects is not greeted, as where QEMU is talking to somebody else.
describe mail c0ffee00-0000-8000-8000-000000000002
qemu-storage-daemon --chardev \
	socket,id=mail,path=/run/machines/mail/backup.sock,server=on,wait=off >"$LOGS/mail.log" 2>&1 </dev/null &
listens /run/machines/mail/backup.sock $!
qemu-system-x86_64 -name guest-7 -uuid c0ffee00-0000-8000-8000-000000000007 -m 64 -display none \
	-blockdev driver=qcow2,node-name=disk0,file.driver=file,file.filename=/var/lib/machines/guest-7.qcow2 \
	-device virtio-blk-pci,drive=disk0,id=vda -device virtio-serial-pci \
	-chardev socket,id=agent,path=/run/machines/guest-7/agent.sock,server=on,wait=off \
	-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 \
	-qmp unix:/run/machines/guest-7/backup.sock,server=on,wait=off >"$LOGS/guest-7.log" 2>&1 </dev/null &
listens /run/machines/guest-7/backup.sock $!
