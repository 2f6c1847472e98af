# Three nodes of one chain. The machine of an owner runs on the second; the first and the third hold copies
# of it. Then the second is lost: node, agent, backups and the machine's disk. What stays with the owner are
# two secrets.
shopt -s expand_aliases
cd "$played"
for number in 1 2 3; do
	mkdir "$number"
	cat >"$number/agent.toml" <<-END
		state_dir = "$played/$number/state"
		listen = "127.0.0.$number:9955"
		gateway_listen = "127.0.0.$number:9956"
		peer_networks = ["127.0.0.0/8"]
		node_rpc = "ws://127.0.0.1:$((9943 + number))"
		restore_format = "raw"
		sweep_seconds = 1
	END
	backup-agent init --config "$number/agent.toml"
done
start_agent() {
	backup-agent run --config "$1/agent.toml" >"$LOGS/agent-$1.log" 2>&1 </dev/null &
	agents[$1]=$!
}
start_node() {
	local number=$1
	shift
	backup-node --chain "$DEV_CHAIN" --base-path "$played/$number/chain" \
		--rpc-port $((9943 + number)) --no-mdns --no-telemetry --no-prometheus \
		--backup-agent-url "http://127.0.0.$number:9955" \
		--backup-agent-secret-file "$played/$number/state/secret" "$@" \
		>"$LOGS/node-$number.log" 2>&1 </dev/null &
	nodes[number]=$!
}
backup-node key generate-node-key --file p2p 2>p2p.id
peer=/ip4/127.0.0.1/tcp/30333/p2p/$(tail -n 1 p2p.id)
start_node 1 --dev --node-key-file p2p --listen-addr /ip4/127.0.0.1/tcp/30333
for number in 1 2 3; do start_agent "$number"; done
listens 9944 "${nodes[1]}"
for number in 2 3; do
	key=//Dave
	[[ $number == 2 ]] || key=//Eve
	start_node "$number" --offchain-worker always --bootnodes "$peer" --backup-dev-key "$key" \
		--listen-addr "/ip4/127.0.0.1/tcp/$((30332 + number))"
done
echo //Alice >operator-1.secret
echo //Dave >operator-2.secret
echo //Eve >operator-3.secret
echo //Bob >owner.secret
backup governance propose set frequency=100000 replicas=2 holder_period=4 key_activation_delay=2 \
	--secret-file operator-1.secret
for number in 1 2 3; do
	backup node register --id "$number" --secret-file "operator-$number.secret" \
		--authority-secret-file "operator-$number.secret" \
		--recipient "$(backup-agent recipient --config "$number/agent.toml")" \
		--gateway "http://node-$number.example:9956"
done
for number in 1 3; do
	backup governance propose admit "$number" --secret-file operator-1.secret
done

backup subscribe --periods 1 --secret-file owner.secret
backup request create --disk-bytes 67108864 --secret-file owner.secret
backup request assign 0 --to 2 --secret-file operator-2.secret
mkdir files
head -c 8000000 /dev/urandom >files/noise
truncate -s 64M disk.raw
mkfs.ext4 -q -d files disk.raw
cat >2/state/vms/web.toml <<END
uuid = "$(backup request tag 0)"

[[disk]]
name = "vda"
image = "$played/disk.raw"
format = "raw"
END
backup request fulfil 0 --vm web --secret-file operator-2.secret
backup key new --output owner.key
backup key register --identity owner.key --secret-file owner.secret
until backup status 0 --json | jq --exit-status \
	'.backups[0].protection | .confirmed != null and (.holders | length) == 2 and all(.holders[]; .to == 1)'; do
	sleep 1
done
lost=$(sha256sum <disk.raw)

kill -KILL "${nodes[2]}" "${agents[2]}"
rm -rf 2 disk.raw files
mkdir "$HOME/desk"
mv owner.key owner.secret operator-3.secret "$HOME/desk"
backup-agent recipient --config 3/agent.toml >"$HOME/desk/recipient-of-node-3"
cd "$HOME/desk"
# Where this computer's node-3.example is.
export BACKUP_PEER_NETWORKS=127.0.0.0/8
