// Compares what pages say of calls, reads and constants with the metadata of a running chain.
//
// node names.mjs URL PAGE...
//
// On a page `pallet.call(argument, …)` in code is a transaction with exactly these arguments, and
// api.tx, api.query, api.call and api.consts are what they are in a program. The first page has to
// name every call of the backup pallet that is no report, every constant, and every event it names
// has to be there. Prints one JSON object.

import { readFileSync } from 'node:fs';
import { ApiPromise, WsProvider } from '@polkadot/api';

const [url, ...pages] = process.argv.slice(2);
const REPORTS = ['addSnapshot', 'reportSnapshotFailed', 'reportRestore', 'reportDeleted', 'reportHeld'];
const CALL = /`(backup|compute|marketplace|council)\.(\w+)\(([^)`]*)\)`/g;
const PATH = /\bapi\.(tx|query|call|consts)\.(\w+)\.(\w+)/g;
const DEADLINE_MS = 60_000;

const camel = (name) => name.replace(/_+(\w)/g, (_, letter) => letter.toUpperCase());

function wrong(api, text) {
	const faults = [];
	for (const [, pallet, name, list] of text.matchAll(CALL)) {
		const call = api.tx[pallet]?.[name];
		const said = list.split(',').map((word) => word.trim()).filter(Boolean);
		const found = call?.meta.args.map((argument) => camel(argument.name.toString()));
		if (!found) {
			faults.push(`there is no call ${pallet}.${name}`);
		} else if (said.join() !== found.join()) {
			faults.push(`${pallet}.${name} takes (${found.join(', ')}), not (${said.join(', ')})`);
		}
	}
	for (const [whole, kind, section, name] of text.matchAll(PATH)) {
		if (api[kind][section]?.[name] === undefined) {
			faults.push(`there is no ${whole}`);
		}
	}
	return faults;
}

function missing(api, text) {
	const calls = Object.keys(api.tx.backup).filter((name) => !REPORTS.includes(name));
	const lacks = (name) => !new RegExp(`\\b${name}\\b`).test(text);
	return [...calls, ...REPORTS, ...Object.keys(api.consts.backup)].filter(lacks);
}

function unknownEvents(api, text) {
	const section = text.split('## Events')[1] ?? '';
	const named = [...section.matchAll(/`([A-Z]\w+)`/g)].map(([, name]) => name);
	const known = [...Object.keys(api.events.backup), 'Deletion'];
	return named.filter((name) => !known.includes(name));
}

const fail = (error) => {
	console.error(error?.message ?? error);
	process.exit(1);
};

setTimeout(() => fail('it took too long'), DEADLINE_MS).unref();
const api = await ApiPromise.create({ provider: new WsProvider(url), noInitWarn: true }).catch(fail);
const texts = pages.map((page) => readFileSync(page, 'utf8'));
console.log(
	JSON.stringify({
		named: texts.map((text) => [...text.matchAll(CALL), ...text.matchAll(PATH)].length),
		wrong: texts.flatMap((text) => wrong(api, text)),
		missing: missing(api, texts[0]),
		unknownEvents: unknownEvents(api, texts[0])
	})
);
await api.disconnect();
