# A computer as its operator has it, for pages that begin with one: an agent is installed, and the node of a
# development chain runs beside it. What stands on standard input is added to the agent's configuration.
install -D -m 644 "$REPOSITORY/deploy/agent.toml" /etc/backup-agent/agent.toml
cat >>/etc/backup-agent/agent.toml
backup-agent init --config /etc/backup-agent/agent.toml
backup-node --dev --chain "$DEV_CHAIN" --base-path "$played/chain" \
	--no-mdns --no-telemetry --no-prometheus \
	--backup-agent-url http://127.0.0.1:9955 \
	--backup-agent-secret-file /var/lib/backup-agent/secret >"$LOGS/node.log" 2>&1 </dev/null &
listens 9944 $!
mkdir -p /var/lib/machines

run_agent() {
	backup-agent run --config /etc/backup-agent/agent.toml >>"$LOGS/agent.log" 2>&1 </dev/null &
	agent=$!
	listens 9955 "$agent"
}
