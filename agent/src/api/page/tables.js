// Lists that are brought up to date in place, so that focus and selection stay where they are. Words
// are only ever set as text: names come from outside.

export function text(node, words) {
	if (node.textContent !== words) node.textContent = words;
}

export function show(node, is_shown) {
	if (node.hidden === is_shown) node.hidden = !is_shown;
}

export function make(tag, className, words) {
	const node = document.createElement(tag);
	if (className) node.className = className;
	if (words !== undefined) node.textContent = words;
	return node;
}

// The first child of a class; it is made if it is not there.
export function part(parent, tag, className) {
	const found = [...parent.children].find((child) => child.classList.contains(className));
	return found ?? parent.appendChild(make(tag, className));
}

// Make a list's children fit the items: one for each key, in order.
export function fill(list, items, keyOf, create, update) {
	const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
	let place = list.firstElementChild;
	for (const item of items) {
		const key = keyOf(item);
		let child = known.get(key);
		known.delete(key);
		if (!child) {
			child = create(item);
			child.dataset.key = key;
		}
		update(child, item);
		if (child === place) place = place.nextElementSibling;
		else list.insertBefore(child, place);
	}
	for (const child of known.values()) child.remove();
}

// The same with the rows of a table, whose columns each know how to show an item. The table is
// hidden while it is empty, and a paragraph stands in its place.
export function fillTable(name, items, keyOf, columns) {
	const rows = document.getElementById(`${name}-rows`);
	const create = () => {
		const row = document.createElement("tr");
		for (const column of columns) {
			const cell = row.appendChild(make(column.heads ? "th" : "td", column.className));
			if (column.heads) cell.scope = "row";
		}
		return row;
	};
	const update = (row, item) => {
		columns.forEach((column, index) => column.show(row.children[index], item));
	};
	fill(rows, items, keyOf, create, update);
	show(document.getElementById(`${name}-table`), items.length > 0);
	show(document.getElementById(`${name}-none`), items.length === 0);
}

export const column = (show, className = "") => ({ show, className });
export const words = (of) => column((cell, item) => text(cell, of(item)));
export const number = (of) => column((cell, item) => text(cell, of(item)), "number minor");

// A word that stands out, with words beside it and below it.
export function badge(cell, word, mood, beside = "", under = "", underMood = "") {
	const line = part(cell, "span", "beside");
	const mark = part(line, "span", "badge");
	text(mark, word);
	mark.dataset.mood = mood;
	text(part(line, "span", "words"), beside);
	const below = part(cell, "span", "under");
	text(below, under);
	below.classList.toggle("bad", underMood === "bad");
	show(below, under !== "");
}

// A name that opens details.
export function opener(cell, name, open) {
	const button = part(cell, "button", "name");
	button.type = "button";
	text(button, name);
	button.onclick = open;
}
