# What is there when somebody learns the command: a chain with a council of two, a node with an agent that
# owners reach, and its operator, who takes the first request as soon as it is there. The configuration is the
# one that the page shows, and its chain `test` is meant.
charlie=5FLSigC9HGRKVhB9FiEo4Y3koPsNmBmLJbpXg2mp1hXcS59Y
backup-node export-chain-spec --chain dev 2>"$LOGS/spec.log" >"$played/plain.json"
# A snapshot is taken when there is none, or when one is asked for.
sed -e "/\"members\": \[/a \"$charlie\"," -e 's/"frequency": 10,/"frequency": 100000,/' \
	"$played/plain.json" >"$played/chain.json"
[[ $(diff "$played/plain.json" "$played/chain.json" | grep -c '^>') == 2 ]]
DEV_CHAIN=$played/chain.json
source "$REPOSITORY/e2e/book/host.sh" <<END
gateway_listen = "127.0.0.1:9956"
peer_networks = ["127.0.0.0/8"]
END
run_agent

mkdir -p ~/.config/backup
sed -n '/^```toml/,/^```/{/^```/!p}' "$REPOSITORY/docs/cli.md" >~/.config/backup/config.toml
echo //Bob >~/.config/backup/test.secret
export BACKUP_CHAIN=test
# Where this computer's node-1.example is.
export BACKUP_PEER_NETWORKS=127.0.0.0/8
echo //Alice >alice
echo //Charlie >charlie
echo //Dave >operator
echo //Dave//authority >authority
echo //Dave//new-authority >new-authority

backup node register --id 1 --secret-file alice --authority-secret-file alice \
	--recipient "$(backup-agent recipient --config /etc/backup-agent/agent.toml)" \
	--gateway http://node-1.example:9956
mkdir -p disk/etc disk/home
echo '/dev/vda / ext4 defaults 0 1' >disk/etc/fstab
echo 'not to be lost' >disk/home/hello.txt
truncate -s 64M /var/lib/machines/web-1.raw
/sbin/mkfs.ext4 -q -d disk /var/lib/machines/web-1.raw
{
	until backup request assign 0 --to 1 --secret-file alice; do sleep 1; done
	cat >/var/lib/backup-agent/vms/web-1.toml <<-END
		uuid = "$(backup request tag 0)"

		[[disk]]
		name = "vda"
		image = "/var/lib/machines/web-1.raw"
		format = "raw"
	END
	backup request create --disk-bytes 67108864 --secret-file charlie
	backup request fulfil 0 --vm web-1 --secret-file alice
} >"$LOGS/operator.log" 2>&1 </dev/null &
