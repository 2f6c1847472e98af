# A chain of three authorities, which are its council too, and all of which make blocks.
port=30331
for name in alice bob charlie; do
	backup-node key generate-node-key --file "$played/$name.p2p" 2>"$played/$name.id"
	peers+=("/ip4/127.0.0.1/tcp/$port/p2p/$(tail -n 1 "$played/$name.id")")
	port=$((port + 1))
done
port=30331
for name in alice bob charlie; do
	backup-node "--$name" --chain "$LOCAL_CHAIN" --base-path "$played/$name" \
		--node-key-file "$played/$name.p2p" --listen-addr "/ip4/127.0.0.1/tcp/$port" \
		--rpc-port $((9944 + port - 30331)) --reserved-only --reserved-nodes "${peers[@]}" \
		--no-mdns --no-telemetry --no-prometheus >"$LOGS/$name.log" 2>&1 </dev/null &
	port=$((port + 1))
done
for port in 9944 9945 9946; do listens $port $!; done
echo //Alice >"$played/alice.secret"
backup node register --id 1 --secret-file "$played/alice.secret" \
	--authority-secret-file "$played/alice.secret" \
	--recipient "$(backup key new --output "$played/node.key")"
