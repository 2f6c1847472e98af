# All that came back is the disk that was lost, and the history goes on.
for image in disk.raw from-holder.raw from-car.raw "$played"/3/state/restored/*/vda.raw; do
	[[ $(sha256sum <"$image") == "$lost" ]] || { echo "$image is another disk"; exit 1; }
done
grep -q 'name = "vda"' machine.toml
backup status 0 --json | jq --exit-status '.request.node == 3 and .backups[0].kept == 1'
