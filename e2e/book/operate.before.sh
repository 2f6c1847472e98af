# What is there when an operator begins: an installed agent, the chain's node beside it, an owner's request,
# and the disk that the machine is to have. The machine is off.
install -D -m 644 "$REPOSITORY/deploy/agent.toml" /etc/backup-agent/agent.toml
backup-agent init --config /etc/backup-agent/agent.toml
backup-node --dev --chain "$DEV_CHAIN" --base-path "$played/chain" \
	--no-mdns --no-telemetry --no-prometheus \
	--backup-agent-url http://127.0.0.1:9955 \
	--backup-agent-secret-file /var/lib/backup-agent/secret >"$LOGS/node.log" 2>&1 </dev/null &
listens 9944 $!
echo //Alice >operator.suri
echo //Alice >authority.suri
echo //Bob >"$played/owner.suri"
backup subscribe --periods 1 --suri-file "$played/owner.suri"
backup request create --disk-bytes 67108864 --suri-file "$played/owner.suri"
backup key new --output "$played/owner.key"
backup key register --identity "$played/owner.key" --suri-file "$played/owner.suri"
mkdir -p /var/lib/machines /run/machines/web
qemu-img create -q -f qcow2 /var/lib/machines/web.qcow2 64M
