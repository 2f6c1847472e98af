// An owner and the council at work through polkadot.js, with nothing but the chain's own
// metadata: no types, no API definitions are given.
//
// node scenario.mjs URL REQUEST CID
//
// Prints one JSON object with what it saw; ends with 1 and the reason when a call fails.

import { ApiPromise, Keyring, WsProvider } from '@polkadot/api';

const [url, request, cid] = process.argv.slice(2);
const DEADLINE_MS = 60_000;

function send(call, signer) {
	return new Promise((resolve, reject) => {
		call
			.signAndSend(signer, ({ status, events, dispatchError }) => {
				if (!status.isInBlock && !status.isFinalized) {
					return;
				}
				if (dispatchError) {
					const error = dispatchError.isModule
						? call.registry.findMetaError(dispatchError.asModule).name
						: dispatchError.toString();
					reject(new Error(`${call.method.section}.${call.method.method}: ${error}`));
				} else {
					resolve(events.map(({ event }) => event));
				}
			})
			.catch(reject);
	});
}

const named = (events, section, method) => {
	const found = events.find((event) => event.section === section && event.method === method);
	if (!found) {
		throw new Error(`no event ${section}.${method}`);
	}
	return found.data.toJSON();
};

async function run(api) {
	const keyring = new Keyring({ type: 'sr25519' });
	const [alice, bob] = ['//Alice', '//Bob'].map((uri) => keyring.addFromUri(uri));

	const frequency = named(
		await send(api.tx.backup.setBackupOffchainWorkerFrequency(50_000), bob),
		'backup',
		'BackupOffchainWorkerFrequencyUpdated'
	);
	const restore = named(
		await send(api.tx.backup.restoreFromSnapshot(cid), bob),
		'backup',
		'SnapshotRestoreRequested'
	);
	const settings = { ...(await api.query.backup.settings()).toJSON(), keepLast: 7 };
	const governance = await send(
		api.tx.council.propose(1, api.tx.backup.setSettings(settings), 1_000),
		alice
	);
	const refused = await send(api.tx.backup.setSettings(settings), bob).then(
		() => 'accepted',
		(error) => error.message
	);

	const backups = await api.query.backup.backups(1, bob.address);
	const snapshots = await api.query.backup.snapshots.entries(request);
	const [page, next] = await api.call.backupApi.snapshots(request, null, 512);
	const [asOf] = await api.call.backupApi.snapshotAsOf(request, 1_000_000, null);
	return {
		pallets: ['backup', 'compute', 'marketplace', 'council'].filter((name) => api.query[name]),
		calls: Object.keys(api.tx.backup),
		frequency,
		ownFrequency: (await api.query.backup.backupOffchainWorkerFrequency(bob.address)).toJSON(),
		restore,
		settings: (await api.query.backup.settings()).toJSON(),
		settingsEvent: named(governance, 'backup', 'SettingsUpdated'),
		refused,
		backups: backups.toJSON(),
		snapshots: snapshots.map(([key, value]) => ({
			request: key.args[0].toJSON(),
			sequence: key.args[1].toJSON(),
			snapshot: value.unwrap().toJSON()
		})),
		eligibility: (await api.call.backupApi.eligibility(request)).toJSON(),
		page: page.map(([sequence, snapshot]) => ({ sequence: sequence.toJSON(), cid: snapshot.cid.toHex() })),
		next: next.toJSON(),
		asOf: asOf.toJSON()
	};
}

const fail = (error) => {
	console.error(error?.message ?? error);
	process.exit(1);
};

setTimeout(() => fail('the scenario took too long'), DEADLINE_MS).unref();
const api = await ApiPromise.create({ provider: new WsProvider(url), noInitWarn: true }).catch(fail);
const seen = await run(api).catch(fail);
console.log(JSON.stringify(seen));
await api.disconnect();
