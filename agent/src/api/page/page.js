// Asks the agent every two seconds and shows what it says. Says clearly when it does not answer.

import { drawCharts, sumsOf } from "./charts.js";
import { ago, ahead, bytes, clock, duration, moment, ratio, short, words as plain } from "./format.js";
import { badge, column, fill, fillTable, make, number, opener, part, show, text, words } from "./tables.js";

const EVERY_MS = 2000;
const ANSWER_MS_MAX = 5000;
// How many attempts are kept here, and how many rows are shown.
const ATTEMPTS_MAX = 2000;
const ROWS_MAX = 12;

const by = (id) => document.getElementById(id);

let attempts = [];
// The number of the last attempt that is known; nothing before the first look.
let behind = null;
let version = null;
let answeredAt = null;
let readyBefore = null;
const speeds = new Map();
// Whether each replica failed at the last look.
const failing = new Map();
let detail = null;
const said = [];

async function ask(path) {
	const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
	if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
	return answer.json();
}

// What those hear who do not see: all that one look has brought, together.
function announce(sentence) {
	said.push(sentence);
}

async function tick() {
	try {
		const asked = ["/v1/status", "/v1/readiness", "/v1/jobs?limit=64", "/v1/machines", `/v1/history?after=${behind ?? 0}&limit=${ATTEMPTS_MAX}`, "/v1/verifications", "/v1/copies", "/v1/replicas"];
		const [status, readiness, jobs, machines, history, verifications, copies, replicas] = await Promise.all(asked.map(ask));
		// Another agent was started in its place: it has a page of its own.
		if (version !== null && version !== status.version) return location.reload();
		version = status.version;
		showAll({ status, readiness, jobs, machines, history, verifications, copies, replicas });
		await showLog();
		showAlive();
	} catch (error) {
		showGone(error);
	}
	if (said.length) by("news").textContent = said.splice(0).join(" ");
	setTimeout(next, EVERY_MS);
}

// A page that nobody sees asks nothing.
function next() {
	if (!document.hidden) return void tick();
	document.addEventListener("visibilitychange", next, { once: true });
}

function showAlive() {
	const wasGone = document.body.classList.contains("is-gone");
	answeredAt = Date.now();
	document.body.classList.remove("is-gone");
	show(by("gone"), false);
	by("live").dataset.state = "live";
	text(by("live-words"), "Live");
	if (wasGone) announce("The agent answers again.");
}

function showGone(error) {
	const isRefused = error.message.startsWith("/");
	const what = isRefused ? `The agent cannot show all (${error.message})` : "The agent does not answer";
	const since = answeredAt ? ` What is shown is from ${clock(answeredAt)}.` : "";
	document.body.classList.add("is-gone");
	by("live").dataset.state = "gone";
	text(by("live-words"), "No answer");
	text(by("gone"), `${what}.${since} It is asked again every ${EVERY_MS / 1000} s.`);
	show(by("gone"), true);
}

function showAll(all) {
	const now = Date.now();
	takeIn(all.history);
	showAbout(all.status);
	showReadiness(all.readiness);
	showTiles(all.status, all.machines);
	showRunning(all.jobs.filter((job) => job.state === "running"), now);
	showMachines(all.machines, all.jobs, now);
	showHistory(now);
	showVerifications(all.verifications, now);
	showCopies(all.copies);
	showReplicas(all.replicas, now);
}

function takeIn(history) {
	const isFirst = behind === null;
	behind = history.last;
	if (!history.attempts.length) return;
	if (!isFirst) {
		const sentences = history.attempts.map((attempt) => {
			const failed = attempt.failed && `failed: ${plain(attempt.failed.reason)}`;
			return `Backup of ${attempt.vm} ${failed ?? "is done"}.`;
		});
		announce(sentences.slice(-3).join(" "));
	}
	attempts = attempts.concat(history.attempts).slice(-ATTEMPTS_MAX);
	drawCharts(attempts);
}

function showAbout(status) {
	const chain = status.genesis ? `chain ${short(status.genesis)}` : "no chain yet";
	text(by("about"), `${status.version} · ${chain}`);
	by("about").title = status.genesis ?? "";
}

function showReadiness(readiness) {
	by("verdict").dataset.state = readiness.ready ? "good" : "bad";
	text(by("verdict"), readiness.ready ? "Ready" : "Not ready");
	const create = () => {
		const item = make("li");
		for (const name of ["sign", "of", "found", "mend"]) item.append(make(name === "of" ? "b" : "span", name));
		return item;
	};
	fill(by("checks"), readiness.checks, (check) => check.name, create, (item, check) => {
		const [sign, name, found, mend] = item.children;
		item.className = check.is_good ? "" : "bad";
		text(sign, check.is_good ? "✓" : "✕");
		text(name, check.name);
		text(found, check.is_good ? check.detail : `is not good: ${check.detail}`);
		text(mend, check.mend ? `To mend it: ${check.mend}.` : "");
		show(mend, Boolean(check.mend));
	});
	if (readyBefore !== null && readyBefore !== readiness.ready) {
		announce(readiness.ready ? "The agent is ready." : "The agent is not ready.");
	}
	readyBefore = readiness.ready;
}

const AGES = {
	fresh: ["fresh", "good"],
	late: ["late", "warn"],
	overdue: ["overdue", "bad"],
	never: ["never", "bad"],
	unwanted: ["not wanted", ""],
};

function showTiles(status, machines) {
	text(by("tile-machines"), String(machines.length));
	const counts = Object.keys(AGES).map((age) => [age, machines.filter((machine) => machine.age === age).length]);
	const told = counts.filter(([, count]) => count).map(([age, count]) => `${count} ${AGES[age][0]}`);
	text(by("tile-machines-more"), told.join(", ") || "none in the inventory");
	const newest = attempts.findLast((attempt) => attempt.taken);
	const snapshots = machines.reduce((sum, machine) => sum + machine.held, 0);
	text(by("tile-held"), newest ? bytes(newest.taken.held_bytes) : "–");
	text(by("tile-held-more"), `${snapshots} snapshot${snapshots === 1 ? "" : "s"}`);
	text(by("tile-stored"), bytes(status.stored_bytes ?? 0));
	text(by("tile-stored-more"), `${bytes(status.available_bytes ?? 0)} left`);
	const sums = sumsOf(attempts);
	text(by("tile-dedup"), ratio(sums.logical, sums.fresh));
	text(by("tile-compression"), ratio(sums.fresh, sums.added));
}

// Bytes a second, measured over the last looks.
function speed(job, now) {
	const looks = speeds.get(job.id) ?? [];
	looks.push({ now, done: job.done_bytes });
	speeds.set(job.id, looks.slice(-6));
	const [first, last] = [looks[0], looks.at(-1)];
	return last.now > first.now ? ((last.done - first.done) * 1000) / (last.now - first.now) : 0;
}

function showRunning(jobs, now) {
	for (const id of speeds.keys()) if (!jobs.some((job) => job.id === id)) speeds.delete(id);
	show(by("running-none"), jobs.length === 0);
	const create = () => {
		const item = make("li");
		const bar = document.createElement("progress");
		item.append(make("span", "what"), bar, make("span", "rate"));
		return item;
	};
	fill(by("running"), jobs, (job) => job.id, create, (item, job) => {
		const [what, bar, rate] = item.children;
		const name = job.vm ?? short(job.request);
		opener(what, job.kind === "restore" && !name.startsWith("restore") ? `${name} (restore)` : name, () => open({ title: `${name}, running`, job: job.id }));
		bar.ariaLabel = `${job.kind} of ${name}`;
		const perSecond = speed(job, now);
		const left = perSecond > 0 ? ((job.total_bytes - job.done_bytes) / perSecond) * 1000 : null;
		if (job.total_bytes > 0) {
			bar.max = job.total_bytes;
			bar.value = job.done_bytes;
			const speedWords = perSecond > 0 ? ` · ${bytes(perSecond)}/s` : "";
			const leftWords = left !== null && left > 0 ? ` · ${duration(left)} left` : "";
			const percent = Math.floor((100 * job.done_bytes) / job.total_bytes);
			text(rate, `${percent} % of ${bytes(job.total_bytes)}${speedWords}${leftWords}`);
		} else {
			bar.removeAttribute("value");
			text(rate, `since ${clock(job.since_ms)}`);
		}
	});
}

function underOf(machine) {
	if (machine.fault) return [`its file: ${machine.fault}`, "bad"];
	if (machine.failure) {
		const { failed, ended_at_ms } = machine.failure;
		return [`failed ${moment(ended_at_ms)}: ${plain(failed.reason)}`, "bad"];
	}
	if (machine.confirmed?.is_late) return ["no other node confirms it", "warn"];
	return machine.is_in_inventory ? ["", ""] : ["not in the inventory any more", ""];
}

const nameOf = (holder) => `node ${short(holder.node)}`;

// Which nodes confirm the newest snapshot that any other node has, and what is wrong with the rest.
function holdersOf({ confirmed }) {
	if (!confirmed) return ["–", ""];
	const { holders, sequence } = confirmed;
	const isGood = (holder) => !holder.is_silent && sequence !== null && holder.sequence === sequence;
	const good = holders.filter(isGood).map(nameOf).join(", ");
	const rest = holders.filter((holder) => !isGood(holder)).map((holder) => `${nameOf(holder)} ${stateOf(holder)}`);
	if (holders.length === 0) rest.push("the chain has chosen no node");
	return [good || "none", rest.join(", ")];
}

function stateOf({ is_silent, sequence }) {
	if (is_silent) return "is silent";
	return sequence === null ? "has none yet" : `has up to ${sequence}`;
}

// How often the chain wants a backup.
function cadenceOf({ is_wanted, cadence }) {
	if (is_wanted === false) return "none is wanted now";
	if (!cadence) return "not known";
	const blocks = `${cadence.blocks} block${cadence.blocks === 1 ? "" : "s"}`;
	return cadence.ms === null ? `every ${blocks}` : `every ${duration(cadence.ms)} (${blocks})`;
}

function showMachines(machines, jobs, now) {
	const taken = (of) => number(({ last }) => (last ? of(last.taken) : "–"));
	const columns = [
		{
			heads: true,
			className: "",
			show: (cell, machine) => {
				const running = jobs.find((job) => job.state === "running" && job.vm === machine.name);
				const attempt = machine.failure ?? machine.last;
				opener(cell, machine.name, () => open({ title: machine.name, attempt, machine, job: running?.id ?? attempt?.job }));
			},
		},
		column((cell, machine) => {
			const [word, mood] = AGES[machine.age];
			const [under, underMood] = underOf(machine);
			badge(cell, word, mood, machine.last ? ago(machine.last.started_at_ms, now) : "", under, underMood);
			cell.title = machine.last ? moment(machine.last.started_at_ms) : "";
		}),
		words((machine) => {
			if (machine.state !== "idle") return machine.state;
			if (machine.is_wanted === false) return "none is wanted";
			return machine.next_at_ms ? ahead(machine.next_at_ms, now) : "when the chain says";
		}),
		column((cell, machine) => {
			const [nodes, rest] = holdersOf(machine);
			text(part(cell, "span", "words"), nodes);
			const under = part(cell, "span", "under");
			text(under, rest);
			show(under, rest !== "");
		}, "minor"),
		taken((one) => bytes(one.logical_bytes)),
		taken((one) => bytes(one.read_bytes)),
		taken((one) => bytes(one.new_bytes)),
		number((machine) => String(machine.held)),
	];
	fillTable("machines", machines, (machine) => machine.name, columns);
}

function showHistory(now) {
	const taken = (of) => number((attempt) => (attempt.taken ? of(attempt.taken) : "–"));
	const columns = [
		column((cell, attempt) => {
			text(cell, ago(attempt.ended_at_ms, now));
			cell.title = moment(attempt.ended_at_ms);
		}),
		{
			heads: true,
			className: "",
			show: (cell, attempt) => opener(cell, attempt.vm, () => open({ title: attempt.vm, attempt, job: attempt.job })),
		},
		column((cell, { taken, failed }) => {
			if (failed) badge(cell, "failed", "bad", plain(failed.reason));
			else badge(cell, "done", "good", taken.is_recorded ? "changes only" : "in full");
		}),
		number((attempt) => duration(attempt.ended_at_ms - attempt.started_at_ms)),
		taken((one) => bytes(one.read_bytes)),
		taken((one) => bytes(one.new_bytes)),
		taken((one) => duration(one.pause_ms)),
	];
	const newest = attempts.slice(-ROWS_MAX).reverse();
	fillTable("history", newest, (attempt) => `${attempt.job}-${attempt.ended_at_ms}`, columns);
}

const VERDICTS = { good: ["good", "good"], bad: ["damaged", "bad"], failed: ["unknown", "warn"] };

function showVerifications(all, now) {
	const names = new Map(attempts.filter(({ taken }) => taken).map(({ taken, vm }) => [taken.cid, vm]));
	const name = (root) => names.get(root) ?? short(root);
	const running = all.running ? [{ ...all.running, verdict: "running", at_ms: all.running.since_ms }] : [];
	const columns = [
		column((cell, one) => {
			text(cell, ago(one.at_ms, now));
			cell.title = moment(one.at_ms);
		}),
		{ heads: true, className: "", show: (cell, one) => text(cell, name(one.root)) },
		words((one) => one.depth),
		column((cell, one) => {
			const [word, mood] = VERDICTS[one.verdict] ?? ["running", ""];
			badge(cell, word, mood, one.verdict === "running" ? bytes(one.done_bytes) : mended(one.mending), one.detail ?? "", mood);
		}),
		number((one) => (one.took_ms === undefined ? "–" : duration(one.took_ms))),
	];
	const shown = running.concat(all.results.slice(0, ROWS_MAX - running.length));
	fillTable("verifications", shown, (one) => `${one.root}-${one.depth}-${one.verdict}`, columns);
}

/** How many blocks are good again, and where they came from. */
function mended(mending) {
	const from = { from_replicas: "replicas", from_holders: "holders", from_disk: "the disk" };
	const parts = Object.entries(from).filter(([key]) => mending?.[key] > 0);
	return parts.map(([key, place]) => `${mending[key]} mended from ${place}`).join(", ");
}

const COPIES = { whole: "good", fetching: "", waiting: "warn", unknown: "" };

function showCopies(copies) {
	const columns = [
		{ heads: true, className: "", show: (cell, copy) => text(cell, short(copy.request)) },
		column((cell, copy) => text(cell, `${copy.to - copy.from} of ${copy.next}`), "tight"),
		column((cell, copy) => badge(cell, copy.state, COPIES[copy.state] ?? "", "", copy.error ?? "", "bad")),
		number((copy) => bytes(copy.fetched_bytes)),
	];
	// One request may have several histories, after a fork.
	const keyed = copies.slice(0, 200).map((copy, index) => ({ ...copy, key: `${copy.request}-${index}` }));
	fillTable("copies", keyed, (copy) => copy.key, columns);
}

const REPLICAS = { whole: "good", filling: "", waiting: "bad", unknown: "" };

function underReplica({ error, damaged, lost, releasing }) {
	if (error) return [error, "bad"];
	if (damaged.length) return [`${damaged.length} blocks are damaged there`, "bad"];
	if (lost) return [`${lost} more there are not here any more`, "bad"];
	return releasing ? [`${releasing} to let go of`, ""] : ["", ""];
}

function showReplicas({ quorum, below_quorum, replicas }, now) {
	const columns = [
		{ heads: true, className: "", show: (cell, one) => text(cell, one.name) },
		column((cell, one) => text(cell, `${one.held} of ${one.held + one.behind}`), "tight"),
		column((cell, one) => {
			const since = one.state !== "whole" && one.last_success_ms ? `whole ${ago(one.last_success_ms, now)}` : "";
			badge(cell, one.state, REPLICAS[one.state] ?? "", since, ...underReplica(one));
		}),
		number((one) => bytes(one.sent_bytes)),
	];
	fillTable("replicas", replicas, (one) => one.name, columns);
	const waiting = below_quorum ? ` ${below_quorum} ${below_quorum === 1 ? "waits" : "wait"} for that.` : "";
	text(by("replicas-quorum"), `The chain is told of a snapshot once ${quorum} places hold it, the store included.${waiting}`);
	show(by("replicas-quorum"), quorum > 1);
	for (const { name, error } of replicas) {
		const failed = Boolean(error);
		if (failing.has(name) && failing.get(name) !== failed) announce(failed ? `The replica ${name} is not in order.` : `The replica ${name} is in order again.`);
		failing.set(name, failed);
	}
}

function factsOf({ attempt, machine, job }) {
	const facts = [];
	if (machine) {
		const [nodes, rest] = holdersOf(machine);
		const copies = machine.confirmed ? [`confirmed by ${nodes}`, rest].filter(Boolean).join("; ") : "none are wanted";
		facts.push(["Wanted", cadenceOf(machine)], ["Copies", copies]);
	}
	if (attempt) {
		const { taken } = attempt;
		facts.push(["Began", moment(attempt.started_at_ms)], ["Took", duration(attempt.ended_at_ms - attempt.started_at_ms)]);
		if (taken) {
			facts.push(
				["Size", bytes(taken.logical_bytes)],
				["Read", `${bytes(taken.read_bytes)}, ${taken.is_recorded ? "changes only" : "in full"}`],
				["New", `${bytes(taken.fresh_bytes)} before compression`],
				["Added", bytes(taken.new_bytes)],
				["Consistency", taken.consistency],
				["Stood still", duration(taken.pause_ms)],
				["Root", taken.cid],
			);
		}
		facts.push(["Snapshot", `${attempt.sequence} of request ${attempt.request}`]);
	}
	if (job) facts.push(["Job", job]);
	return facts;
}

function open(what) {
	detail = what;
	text(by("detail-title"), what.title);
	const { failed } = what.attempt ?? {};
	text(by("detail-failure"), failed ? `${plain(failed.reason)}: ${failed.detail}` : "");
	show(by("detail-failure"), Boolean(failed));
	by("detail-facts").replaceChildren(
		...factsOf(what).map(([name, value]) => {
			const fact = make("div", ["Root", "Job", "Snapshot"].includes(name) ? "wide" : "");
			fact.append(make("dt", "", name), make("dd", "", value));
			return fact;
		}),
	);
	by("log").replaceChildren();
	show(by("log"), false);
	show(by("log-none"), false);
	by("detail").showModal();
	showLog().catch(showGone);
}

async function showLog() {
	if (!by("detail").open || !detail) return;
	const asked = detail;
	const lines = asked.job ? await ask(`/v1/jobs/${asked.job}/log`) : [];
	if (asked !== detail) return;
	show(by("log-none"), lines.length === 0);
	show(by("log"), lines.length > 0);
	const log = by("log");
	const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
	const create = () => {
		const item = make("p");
		item.append(make("time"), make("span"));
		return item;
	};
	const keyed = lines.map((line, index) => ({ ...line, key: `${line.at_ms}-${index}` }));
	fill(log, keyed, (line) => line.key, create, (item, line) => {
		const [time, said] = item.children;
		text(time, `${clock(line.at_ms)} `);
		said.className = line.level;
		text(said, line.level === "info" ? line.text : `${line.level}: ${line.text}`);
	});
	if (isAtEnd) log.scrollTop = log.scrollHeight;
}

by("detail").addEventListener("close", () => {
	detail = null;
});

tick();
