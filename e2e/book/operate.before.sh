# What is there when an operator begins: an installed agent, the chain's node beside it, an owner's request,
# and the disk that the machine is to have. The machine is off.
source "$REPOSITORY/e2e/book/host.sh" </dev/null
echo //Alice >operator.secret
echo //Alice >authority.secret
echo //Bob >"$played/owner.secret"
backup subscribe --periods 1 --secret-file "$played/owner.secret"
backup request create --disk-bytes 67108864 --secret-file "$played/owner.secret"
backup key new --output "$played/owner.key"
backup key register --identity "$played/owner.key" --secret-file "$played/owner.secret"
mkdir -p /run/machines/web
qemu-img create -q -f qcow2 /var/lib/machines/web.qcow2 64M
