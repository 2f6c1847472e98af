# What is there when an operator begins: an installed agent, the chain's node beside it, an owner's request,
# and the disk that the machine is to have. The machine is off.
source "$REPOSITORY/e2e/book/host.sh" </dev/null
echo //Alice >operator.suri
echo //Alice >authority.suri
echo //Bob >"$played/owner.suri"
backup subscribe --periods 1 --suri-file "$played/owner.suri"
backup request create --disk-bytes 67108864 --suri-file "$played/owner.suri"
backup key new --output "$played/owner.key"
backup key register --identity "$played/owner.key" --suri-file "$played/owner.suri"
mkdir -p /run/machines/web
qemu-img create -q -f qcow2 /var/lib/machines/web.qcow2 64M
