#!/bin/sh
# Makes Kubo a place for a replica and for nothing else. Its image runs this before the daemon, each time.
set -eu

token=$(cat "${KUBO_TOKEN_FILE:-/run/secrets/kubo-token}")
if [ -z "$token" ]; then
	echo "the token is empty" >&2
	exit 1
fi

# Whoever has the token may do what an agent does: store blocks, and pin. Nobody else may do anything.
ipfs config --json API.Authorizations "{\"agent\": {\"AuthSecret\": \"$token\",
	\"AllowedPaths\": [\"/api/v0/block\", \"/api/v0/dag/import\", \"/api/v0/pin\"]}}"
ipfs config Addresses.API "/ip4/0.0.0.0/tcp/${KUBO_API_PORT:-5001}"
# The health check asks there, and reaches what is here alone.
ipfs config Addresses.Gateway "/ip4/127.0.0.1/tcp/${KUBO_GATEWAY_PORT:-8080}"
ipfs config --json Gateway.NoFetch true

# Blocks come from the agent. The world is neither asked for them nor told of them.
ipfs bootstrap rm --all >/dev/null
ipfs config --json Addresses.Swarm '[]'
ipfs config Routing.Type none
ipfs config --json Provide.Enabled false

# It collects when nine tenths of that are full.
ipfs config Datastore.StorageMax "${KUBO_STORAGE_MAX:-500GB}"
