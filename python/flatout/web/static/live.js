// Cards of what runs now. A card is made once and its texts are changed; a run that is gone takes its card along.

import { count, duration, element, load, percent, rate } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const cards = new Map();

function chart(title, lines) {
  const figure = element("figure");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const paths = lines.map(([style]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", style);
    svg.append(path);
    return path;
  });
  const caption = element("figcaption", `${title}: `);
  lines.forEach(([style, name], n) => caption.append(element("span", (n ? ", " : "") + name, { class: style })));
  const highest = element("span");
  caption.append(highest);
  figure.append(svg, caption);
  return { figure, paths, highest };
}

function draw(drawn, series, shown) {
  const most = Math.max(0, ...series.flat().filter((value) => value !== null));
  drawn.figure.hidden = series[0].length < 2 || most === 0;
  if (drawn.figure.hidden) return;
  drawn.highest.textContent = `; highest ${shown(most)}`;
  series.forEach((values, n) => {
    let begun = false;
    const points = values.map((value, i) => {
      if (value === null) { begun = false; return ""; }
      const point = `${begun ? "L" : "M"}${((100 * i) / (values.length - 1)).toFixed(2)} ${(98 - (96 * value) / most).toFixed(2)}`;
      begun = true;
      return point;
    });
    drawn.paths[n].setAttribute("d", points.join(""));
  });
}

function made(run) {
  const root = element("article", "", { class: "card", "data-run": run.id });
  const card = {
    root,
    title: element("h3", `${run.command} ${run.protocol}${run.transport === "udp" ? "" : ` ${run.transport}`} ${run.target}`),
    phase: element("p", "", { class: "note" }),
    bar: element("progress", "", { max: "1", "aria-label": "progress" }),
    numbers: element("dl"),
    rates: chart("per second", [["first", "asked"], ["second", run.one_way ? "received" : "answered"]]),
    latency: chart("latency from due", [["second", "p50"], ["third", "p99"]]),
    lateness: chart("lateness of the generator", [["third", "p99"]]),
    trials: element("table", "", { hidden: "", class: "compact" }),
    values: new Map(),
    trialsShown: "",
  };
  root.append(card.title, card.phase, card.bar, card.numbers, card.rates.figure, card.latency.figure);
  root.append(card.lateness.figure, card.trials);
  return card;
}

function say(card, pairs) {
  for (const [name, text] of pairs) {
    let value = card.values.get(name);
    if (!value) {
      value = element("dd");
      const pair = element("div");
      pair.append(element("dt", name), value);
      card.numbers.append(pair);
      card.values.set(name, value);
    }
    if (value.textContent !== text) value.textContent = text;
  }
}

function numbers(run) {
  const last = run.seconds.at(-1);
  const pairs = [
    ["asked for", rate(run.rate_per_s)],
    ["sent", count(run.sent)],
    [run.one_way ? "received" : "answered", count(run.came)],
    ["lost", run.sent && !run.one_way ? `${count(run.lost)} (${percent(run.lost / run.sent)})` : count(run.lost)],
    ["not sent", count(run.unsent)],
    ["late p99", duration(last?.lateness_p99)],
  ];
  if (!run.one_way) pairs.push(["latency p50", duration(last?.p50)], ["latency p99", duration(last?.p99)]);
  if (run.connections_asked) pairs.push(["connections", `${count(run.connections)} of ${count(run.connections_asked)}`]);
  for (const name of ["refused", "invalid", "late", "duplicate"]) if (run[name]) pairs.push([name, count(run[name])]);
  if (run.search) {
    const { search } = run;
    pairs.push(["trial", `${search.trial} at ${load(search.load, search.unit)}`]);
    pairs.push(["held", load(search.lower, search.unit)], ["failed", load(search.upper, search.unit)]);
    if (search.limit !== null) pairs.push(["limit", load(search.limit, search.unit)]);
  }
  return pairs;
}

function showTrials(card, search) {
  const key = JSON.stringify(search.trials.map((trial) => [trial.trial, trial.verdict]));
  if (key === card.trialsShown) return;
  card.trialsShown = key;
  card.trials.hidden = search.trials.length === 0;
  const rows = search.trials.slice(-12).reverse().map((trial) => {
    const row = element("tr", "", { title: trial.why });
    row.append(element("td", String(trial.trial), { "data-name": "trial" }), element("td", load(trial.load, search.unit)));
    row.append(element("td", trial.verdict, { class: trial.verdict }));
    row.append(element("td", percent(trial.loss), { "data-name": "loss" }), element("td", duration(trial.p99), { "data-name": "p99" }));
    return row;
  });
  card.trials.replaceChildren(...rows);
}

function update(card, run) {
  const ahead = run.t_s < 0 ? `starts in ${(-run.t_s).toFixed(1)} s` : `${run.t_s.toFixed(1)} of ${run.total_s.toFixed(1)} s`;
  card.phase.textContent = run.search ? `${run.search.phase}; trial: ${run.phase}, ${ahead}` : `${run.phase}, ${ahead}`;
  const { search } = run;
  const share = search ? search.elapsed_s / search.budget_s : run.t_s / run.total_s;
  card.bar.value = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
  say(card, numbers(run));
  draw(card.rates, [run.seconds.map((s) => s.planned), run.seconds.map((s) => s.came)], rate);
  draw(card.latency, [run.seconds.map((s) => s.p50), run.seconds.map((s) => s.p99)], duration);
  draw(card.lateness, [run.seconds.map((s) => s.lateness_p99)], duration);
  if (search) showTrials(card, search);
}

export function show(runs) {
  const place = document.getElementById("live");
  document.getElementById("nothing-runs").hidden = runs.length > 0;
  const there = new Set(runs.map((run) => run.id));
  for (const [id, card] of cards) {
    if (!there.has(id)) {
      card.root.remove();
      cards.delete(id);
    }
  }
  for (const run of runs) {
    if (!cards.has(run.id)) {
      cards.set(run.id, made(run));
      place.append(cards.get(run.id).root);
    }
    update(cards.get(run.id), run);
  }
}
