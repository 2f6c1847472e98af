// Looks at the agent's page with a real browser, as a test tells it to: reads one order a line, as
// JSON, and answers each with a line. Ends when there are no more orders.
//
// node look.mjs CHROMIUM URL

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [executablePath, url] = process.argv.slice(2);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const STEP_MS_MAX = 60_000;
const DESKTOP = { width: 1280, height: 900 };

// Whoever waits for this does not wait for ever.
setTimeout(() => process.exit(9), 600_000).unref();

const browser = await chromium.launch({
	executablePath,
	args: [
		"--disable-gpu",
		"--disable-quic",
		"--no-first-run",
		"--disable-background-networking",
		"--disable-component-update",
		"--disable-sync",
	],
});
const context = await browser.newContext({ viewport: DESKTOP, reducedMotion: "reduce", colorScheme: "light" });
const page = await context.newPage();
page.setDefaultTimeout(STEP_MS_MAX);
// The page's policy lets in no script from outside; what is added so comes before it.
await page.addInitScript({ content: AXE });

const errors = [];
const requests = [];
page.on("console", (message) => {
	if (["error", "warning"].includes(message.type())) errors.push(message.text());
});
page.on("pageerror", (error) => errors.push(String(error)));
page.on("request", (request) => requests.push(request.url()));

const steps = {
	// Load the page three times: the time to its first content is that of the best, for the machine
	// does much else. Bytes are those of everything but the views.
	async load() {
		const paints = [];
		const sizes = [];
		const counts = [];
		for (let turn = 0; turn < 3; turn += 1) {
			let bytes = 0;
			let requests = 0;
			const count = async (response) => {
				if (response.url().includes("/v1/")) return;
				requests += 1;
				const body = await response.body();
				bytes += body.length;
			};
			const bodies = [];
			const listen = (response) => bodies.push(count(response));
			page.on("response", listen);
			await page.goto(url, { waitUntil: "load" });
			await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
			await Promise.all(bodies);
			page.off("response", listen);
			sizes.push(bytes);
			counts.push(requests);
			paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
		}
		return {
			paint_ms: Math.min(...paints),
			bytes: Math.max(...sizes),
			requests: Math.max(...counts),
			title: await page.title(),
		};
	},
	// Wait until an element is seen and has these words.
	async see({ of, text }) {
		try {
			await page.locator(of).filter({ hasText: text, visible: true }).first().waitFor();
		} catch {
			throw new Error(`${of} never had ${JSON.stringify(text)} but ${JSON.stringify(await page.locator(of).allInnerTexts())}`);
		}
	},
	// Wait until these words are read out to those who do not see.
	hear: ({ text }) => page.locator("[role=status]").filter({ hasText: text }).waitFor({ state: "attached" }),
	count: ({ of }) => page.locator(of).count(),
	attribute: ({ of, name }) => page.locator(of).first().getAttribute(name),
	// Reach an element by the Tab key alone, and say how many times that took.
	async tab_to({ of }) {
		await page.evaluate(() => document.activeElement?.blur());
		for (let presses = 1; presses <= 60; presses += 1) {
			await page.keyboard.press("Tab");
			if (await page.evaluate((of) => document.activeElement?.matches(of), of)) {
				const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
				if (outline === "none") throw new Error(`${of} does not show that it has the focus`);
				return presses;
			}
		}
		throw new Error(`the Tab key never came to ${of}`);
	},
	press: ({ key }) => page.keyboard.press(key),
	focused: () => page.evaluate(() => document.activeElement?.textContent ?? ""),
	// What somebody who does not see, or does not see well, stumbles over.
	async axe({ scheme }) {
		await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
		const result = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
		return result.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
	},
	// Whether there is something to scroll to sideways at this width, and what sticks out.
	async narrow({ width }) {
		await page.setViewportSize({ width, height: 800 });
		const sticking = await page.evaluate(() => {
			const wide = document.documentElement.clientWidth;
			const out = [...document.querySelectorAll("main *")].filter((node) => node.getBoundingClientRect().right > wide + 1);
			const scrolls = document.documentElement.scrollWidth > wide;
			return scrolls ? out.map((node) => `${node.tagName}#${node.id}.${node.className}`).concat("the page scrolls") : [];
		});
		return sticking;
	},
	widen: () => page.setViewportSize(DESKTOP),
	async picture({ path, width, height, scheme }) {
		await page.setViewportSize({ width, height });
		await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
		await page.waitForTimeout(300);
		await page.screenshot({ path, fullPage: true });
		await page.setViewportSize(DESKTOP);
	},
	// What was logged as an error since the last question.
	errors: () => errors.splice(0),
	// Hosts that were asked.
	hosts: () => [...new Set(requests.map((request) => new URL(request).host))],
};

for await (const line of createInterface({ input: process.stdin })) {
	const { step, ...order } = JSON.parse(line);
	try {
		console.log(JSON.stringify({ done: (await steps[step](order)) ?? null }));
	} catch (error) {
		console.log(JSON.stringify({ failed: `${step}: ${error.message}` }));
	}
}
await browser.close();
