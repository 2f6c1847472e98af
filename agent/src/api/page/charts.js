// The two charts. What they show is said in words, too, to those who do not see them.

import { bytes, moment } from "./format.js";
import { make } from "./tables.js";

const HEIGHT = 200;
// More points than pixels are of no use.
const POINTS_MAX = 400;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
	constructor(name, lines, format, steps) {
		this.node = document.getElementById(name);
		this.legend = document.getElementById(`${name}-legend`);
		this.lines = lines;
		this.format = format;
		this.steps = steps;
		this.values = this.lines.map((line, index) => {
			const key = this.legend.appendChild(make("span", index ? "key second" : "key", `${line} `));
			return key.appendChild(make("b"));
		});
		this.at = this.legend.appendChild(make("span"));
		this.data = null;
		new ResizeObserver(() => this.plot?.setSize({ width: this.node.clientWidth, height: HEIGHT })).observe(this.node);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
	}

	set(data) {
		this.data = thin(data);
		if (this.plot) this.plot.setData(this.data);
		else this.draw();
		this.say(this.data[0].length - 1);
		const [times, ...series] = this.data;
		const parts = this.lines.map((line, index) => {
			const values = series[index];
			return `${line}: ${this.format(values[0])} to ${this.format(values.at(-1))}`;
		});
		this.node.ariaLabel = `From ${moment(times[0] * 1000)} to ${moment(times.at(-1) * 1000)}. ${parts.join(". ")}.`;
	}

	// The figures of one point, in the legend.
	say(index) {
		const [times, ...series] = this.data;
		this.values.forEach((value, line) => {
			value.textContent = this.format(series[line][index]);
		});
		this.at.textContent = moment(times[index] * 1000);
	}

	draw() {
		if (!this.data) return;
		this.plot?.destroy();
		const colours = [css("--accent"), css("--second")];
		const scales = ["left", "right"];
		const range = (_, _least, most) => [0, (most || 1) * 1.1];
		const grid = { stroke: css("--line"), width: 1 };
		const axis = { font: "11px system-ui, sans-serif", grid, ticks: { show: false }, gap: 4 };
		// Each line has the axis of its own colour: one is many times the other.
		const side = (index) => ({
			...axis,
			scale: scales[index],
			side: index ? 1 : 3,
			stroke: colours[index],
			grid: index ? { show: false } : grid,
			size: 62,
			...(this.steps && { incrs: this.steps }),
			values: (_, ticks) => ticks.map((tick) => this.format(tick).replace(/\.0+(?= |×|$)/, "")),
		});
		const options = {
			width: this.node.clientWidth,
			height: HEIGHT,
			legend: { show: false },
			padding: [6, null, 0, null],
			cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
			scales: { x: { time: true }, left: { range }, right: { range } },
			axes: [
				{
					...axis,
					stroke: css("--muted"),
					size: 28,
					space: 90,
					values: (_, ticks, _axis, _space, step) => ticks.map((tick) => label(tick, step)),
				},
				side(0),
				side(1),
			],
			series: [
				{},
				...this.lines.map((name, index) => ({
					label: name,
					scale: scales[index],
					stroke: colours[index],
					width: 2,
					fill: index && this.steps ? `${colours[index]}1c` : undefined,
					points: { show: this.data[0].length < 30, size: 5, fill: colours[index] },
				})),
			],
			hooks: { setCursor: [(plot) => this.say(plot.cursor.idx ?? this.data[0].length - 1)] },
		};
		this.plot = new uPlot(options, this.data, this.node);
	}
}

function label(tick, step) {
	const [day, time] = moment(tick * 1000).split(", ");
	return step < 86400 ? time.slice(0, step < 60 ? 8 : 5) : day;
}

function thin(data) {
	const length = data[0].length;
	if (length <= POINTS_MAX) return data;
	const step = (length - 1) / (POINTS_MAX - 1);
	const kept = Array.from({ length: POINTS_MAX }, (_, index) => Math.round(index * step));
	return data.map((values) => kept.map((index) => values[index]));
}

const times = (value) => (value >= 100 ? `${Math.round(value)}×` : `${Number(value.toPrecision(3))}×`);

let growth;
let ratios;

// Draw what was held, stored and saved after each of these backups, the oldest first.
export function drawCharts(attempts) {
	const taken = attempts.filter((attempt) => attempt.taken);
	if (!taken.length || typeof uPlot === "undefined") return;
	growth ??= new Chart("growth", ["Held", "Stored"], bytes, Array.from({ length: 60 }, (_, power) => 2 ** power));
	ratios ??= new Chart("ratios", ["Deduplication", "Compression"], times);
	const at = taken.map((attempt) => attempt.ended_at_ms / 1000);
	growth.set([at, taken.map(({ taken }) => taken.held_bytes), taken.map(({ taken }) => taken.store_bytes)]);
	const sums = { logical: 0, fresh: 0, added: 0 };
	const [dedup, compression] = [[], []];
	for (const { taken: one } of taken) {
		add(sums, one);
		dedup.push(sums.fresh ? sums.logical / sums.fresh : 1);
		compression.push(sums.added ? sums.fresh / sums.added : 1);
	}
	ratios.set([at, dedup, compression]);
}

function add(sums, taken) {
	sums.logical += taken.logical_bytes;
	sums.fresh += taken.fresh_bytes;
	sums.added += taken.new_bytes;
}

// What was backed up, what of it was new, and what that took, in bytes.
export function sumsOf(attempts) {
	const sums = { logical: 0, fresh: 0, added: 0 };
	for (const attempt of attempts) if (attempt.taken) add(sums, attempt.taken);
	return sums;
}
