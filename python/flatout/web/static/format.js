// Numbers as reports and the terminal write them, and elements made of text alone: nothing from outside becomes markup.

const NOTHING = "–";

function digits(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function count(value) {
  return value === null || value === undefined ? NOTHING : Math.round(value).toLocaleString("en");
}

export function rate(value) {
  if (value === null || value === undefined) return NOTHING;
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size * 0.9995) return `${digits(value / size)} ${letter}/s`;
  }
  return `${value ? digits(value) : 0} /s`;
}

export function load(value, unit) {
  return unit.endsWith("/s") ? rate(value) : `${count(value)} ${unit}`;
}

export function duration(ns) {
  if (ns === null || ns === undefined) return NOTHING;
  for (const [size, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
    if (Math.abs(ns) >= size * 0.9995) return `${digits(ns / size)} ${unit}`;
  }
  return `${ns.toFixed(0)} ns`;
}

export function percent(share) {
  if (share === null || share === undefined) return NOTHING;
  return `${(100 * share).toFixed(share === 0 || share === 1 ? 0 : 2)} %`;
}

export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  if (text !== "") made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function heading(names) {
  const head = element("thead"), row = element("tr");
  row.append(...names.map((name) => element("th", name)));
  head.append(row);
  return head;
}

export async function fetched(address) {
  const answer = await fetch(address);
  const body = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (!answer.ok) throw new Error(body.error);
  return body;
}
