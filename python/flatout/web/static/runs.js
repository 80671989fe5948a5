// The list of kept runs, and two of them compared.

import { count, duration, element, fetched, load, percent, rate } from "./format.js";

const STEP = 50, MOST = 1000;
const list = document.querySelector("#runs tbody");
const filter = document.getElementById("filter");
const form = document.getElementById("compare");
const more = document.getElementById("more");
let last = STEP, asked = 0;
// Numbers of the chosen runs, in the order of the clicks; two at most.
let chosen = [];

function cell(name, ...content) {
  const made = element("td", "", name ? { "data-name": name } : {});
  made.append(...content);
  return made;
}

function row(run) {
  const made = element("tr", "", { "data-run": run.id });
  const box = element("input", "", { type: "checkbox", "aria-label": `choose run ${run.id}` });
  box.checked = chosen.includes(run.id);
  box.addEventListener("change", () => choose(run.id, box.checked));
  const label = run.label ? [element("button", run.label, { type: "button", title: "only this label" })] : [];
  label[0]?.addEventListener("click", () => { filter.elements.label.value = run.label; again(); });
  const transport = run.transport === "udp" ? "" : ` ${run.transport}`;
  const report = element("a", "Report", { href: `report?runs=${run.id}`, target: "_blank", rel: "noopener" });
  made.append(
    cell("", box),
    cell("Run", String(run.id)),
    cell("Started", new Date(run.started_at * 1000).toLocaleString()),
    cell("Label", ...label),
    cell("", `${run.kind} ${run.protocol}${transport} ${run.target}`),
    cell("Verdict", run.valid ? run.verdict : `${run.verdict} (not valid)`),
    cell("Result", run.value === null ? "–" : load(run.value, run.unit)),
    cell("Loss", percent(run.loss)),
    cell("p99", duration(run.p99_ns)),
    cell("", report),
  );
  return made;
}

export async function refresh() {
  const mine = (asked += 1);
  const query = new URLSearchParams([...new FormData(filter)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  query.set("last", last);
  try {
    const { runs } = await fetched(`api/runs?${query}`);
    if (mine !== asked) return;
    list.replaceChildren(...runs.map(row));
    document.getElementById("no-runs").hidden = runs.length > 0;
    document.getElementById("runs").hidden = runs.length === 0;
    more.hidden = runs.length < last || last >= MOST;
  } catch (error) {
    if (mine === asked) fault(error.message);
  }
}

export function fault(text) {
  const place = document.getElementById("fault");
  place.textContent = text;
  place.hidden = !text;
}

function again() {
  last = STEP;
  refresh();
}

function choose(run, wanted) {
  chosen = chosen.filter((other) => other !== run);
  if (wanted) chosen = [...chosen.slice(-1), run];
  for (const one of list.rows) one.querySelector("input").checked = chosen.includes(Number(one.dataset.run));
  // The older one is what the newer one is held against.
  const [a = "", b = ""] = [...chosen].sort((one, other) => one - other);
  form.elements.a.value = a;
  form.elements.b.value = b;
  document.getElementById("comparison").replaceChildren();
  if (chosen.length === 2) compare();
}

function changes(found) {
  const table = element("table");
  const head = element("tr");
  for (const name of ["", `A: ${found.a.name}`, `B: ${found.b.name}`, "Change", "95 % interval", ""]) head.append(element("th", name));
  const top = element("thead");
  top.append(head);
  const body = element("tbody");
  const signed = (share) => `${share >= 0 ? "+" : ""}${(100 * share).toFixed(1)} %`;
  for (const change of found.changes) {
    const shown = change.name !== "rate" ? duration : found.unit.endsWith("/s") ? rate : count;
    const line = element("tr");
    line.append(
      element("td", change.name), cell("A", shown(change.a)), cell("B", shown(change.b)),
      cell("Change", change.change === null ? "–" : signed(change.change)),
      cell("95 % interval", change.interval ? change.interval.map(signed).join(" … ") : "–"),
      element("td", change.outcome, { class: change.outcome, title: change.why }),
    );
    body.append(line);
  }
  table.append(top, body);
  return table;
}

function differences(found) {
  const all = element("ul");
  for (const one of found.differences) all.append(element("li", `${one.what}: ${one.a} → ${one.b}`));
  for (const side of [found.a, found.b]) {
    if (side.left_out.length) all.append(element("li", `left out of ${side.name}, not valid: ${side.left_out.join(", ")}`));
  }
  return all;
}

async function compare() {
  const place = document.getElementById("comparison");
  const asking = new URLSearchParams(new FormData(form));
  try {
    const found = await fetched(`api/compare?${asking}`);
    if (asking.toString() !== new URLSearchParams(new FormData(form)).toString()) return;
    const sentence = element("p");
    sentence.append(element("strong", found.outcome, { class: found.outcome }), `: ${found.why}`);
    const shown = [sentence];
    if (found.changes.length) shown.push(changes(found));
    shown.push(differences(found));
    const numbers = [...found.a.runs, ...found.b.runs];
    if (numbers.length <= 8) {
      shown.push(element("a", "Report of both", { href: `report?runs=${numbers.join(",")}`, target: "_blank", rel: "noopener" }));
    }
    place.replaceChildren(...shown);
    // On a phone the list is far below.
    place.scrollIntoView({ block: "nearest" });
  } catch (error) {
    place.replaceChildren(element("p", error.message, { class: "bad" }));
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); compare(); });
form.addEventListener("reset", () => { chosen = []; document.getElementById("comparison").replaceChildren(); for (const one of list.rows) one.querySelector("input").checked = false; });
filter.addEventListener("submit", (event) => { event.preventDefault(); again(); });
more.addEventListener("click", () => { last = Math.min(MOST, last * 2); refresh(); });
