// Runs the programs of a page as they stand there, one after the other, in one module: what the first one
// imports and connects to, the next ones use.
//
// node guide.mjs URL PAGE
//
// Only the node's address is another one. Prints one JSON object with what they logged; ends with 1 and
// the reason when one of them fails.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [url, page] = process.argv.slice(2);
const ADDRESS = 'ws://127.0.0.1:9944';
const DEADLINE_MS = 60_000;

const fail = (error) => {
	console.error(error?.stack ?? error);
	process.exit(1);
};

const programs = [...readFileSync(page, 'utf8').matchAll(/^```js\n([^]*?)^```$/gm)].map(([, program]) => program);
if (programs.length === 0 || !programs[0].includes(ADDRESS)) {
	fail('the page has no program that connects to a node');
}

// Here, so that what it imports is found.
const folder = mkdtempSync(join(import.meta.dirname, 'node_modules/.guide-'));
const file = join(folder, 'guide.mjs');
const logged = [];
console.log = (...values) => logged.push(...values);
process.on('exit', () => rmSync(folder, { recursive: true }));
process.on('unhandledRejection', fail);
setTimeout(() => fail('the programs took too long'), DEADLINE_MS).unref();
writeFileSync(file, programs.join('\n').replaceAll(ADDRESS, url));
await import(pathToFileURL(file)).catch(fail);
process.stdout.write(JSON.stringify({ programs: programs.length, logged }), () => process.exit(0));
