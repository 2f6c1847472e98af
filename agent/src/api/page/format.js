// Numbers and times as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count) {
	let unit = 0;
	while (count >= 1000 && unit < UNITS.length - 1) {
		count /= 1024;
		unit += 1;
	}
	const digits = unit === 0 || count >= 100 ? 0 : count >= 10 ? 1 : 2;
	return `${count.toFixed(digits)} ${UNITS[unit]}`;
}

export function duration(ms) {
	const seconds = ms / 1000;
	if (seconds < 1) return `${Math.round(ms)} ms`;
	if (seconds < 10) return `${seconds.toFixed(1)} s`;
	if (seconds < 120) return `${Math.round(seconds)} s`;
	const minutes = Math.round(seconds / 60);
	if (minutes < 120) return `${minutes} min`;
	const hours = Math.round(minutes / 60);
	return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

export function ago(at, now) {
	const ms = now - at;
	return ms < 5000 ? "just now" : `${duration(ms)} ago`;
}

export function ahead(at, now) {
	const ms = at - now;
	return ms > 0 ? `in ${duration(ms)}` : "due";
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const clock = (at) => CLOCK.format(at);
export const moment = (at) => `${DAY.format(at)}, ${CLOCK.format(at)}`;

export function ratio(large, small) {
	if (!(small > 0) || !(large > 0)) return "–";
	const times = large / small;
	return `${times.toFixed(times < 10 ? 2 : times < 100 ? 1 : 0)} : 1`;
}

// "image-in-use" as words.
export const words = (name) => name.replaceAll("-", " ");

// The start of a long identifier.
export const short = (text) => (text.length > 14 ? `${text.slice(0, 8)}…${text.slice(-4)}` : text);
