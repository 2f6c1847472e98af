// Fetches all that is below a root from one gateway, and prints how much it was. Helia hashes every
// block, and finds the next ones by their links, as any IPFS client does.
//
// usage: node --require ./promise.cjs walk.mjs GATEWAY ROOT

import { trustlessGateway } from '@helia/block-brokers'
import { createHeliaHTTP } from '@helia/http'
import { httpGatewayRouting } from '@helia/routers'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'

const [gateway, root] = process.argv.slice(2)
const helia = await createHeliaHTTP({
	codecs: [dagCbor],
	routers: [httpGatewayRouting({ gateways: [gateway] })],
	blockBrokers: [trustlessGateway({ allowInsecure: true, allowLocal: true })],
})
const cids = []
for await (const cid of helia.pins.add(CID.parse(root))) {
	cids.push(cid)
}
const sizes = { blocks: 0, bytes: 0 }
for (const cid of cids) {
	sizes.blocks += 1
	for await (const part of helia.blockstore.get(cid)) {
		sizes.bytes += part.length
	}
}
console.log(JSON.stringify(sizes))
await helia.stop()
process.exit(0)
