// Cards of what runs now. A card is made once and its texts are changed; a run that is gone takes its card along.

import { chart, draw, room } from "./chart.js";
import { count, duration, element, heading, load, percent, rate } from "./format.js";
import { HeatMap } from "./heat.js";
import { Hosts } from "./hosts.js";

const VERDICTS = ["held", "failed", "invalid"];
// Fewer trials than these are not drawn wider.
const FEWEST_TRIALS = 10;
const LONG_S = 3;
const cards = new Map();

function made(run) {
  const root = element("article", "", { class: "card", "data-run": run.id });
  const card = {
    root,
    title: element("h3", `${run.command} ${run.protocol}${run.transport === "udp" ? "" : ` ${run.transport}`} ${run.target}`),
    phase: element("p", "", { class: "note" }),
    bar: element("progress", "", { max: "1", "aria-label": "progress" }),
    numbers: element("dl"),
    rates: chart("per second", [["first", "asked"], ["second", run.one_way ? "received" : "answered"]]),
    heat: new HeatMap(),
    hosts: new Hosts(),
    latency: chart("latency from due", [["second", "p50"], ["third", "p99"]], { log: true }),
    lateness: chart("lateness of the generator", [["third", "p99"]]),
    loads: chart("loads of the trials", VERDICTS.map((verdict) => [verdict, verdict]), { log: true, dots: true }),
    charts: element("div", "", { class: "charts" }),
    trials: element("table", "", { hidden: "", class: "compact" }),
    trialRows: element("tbody"),
    values: new Map(),
    trialsShown: "",
  };
  card.trials.append(heading(["trial", "load", "verdict", "loss", "p99"]), card.trialRows);
  root.append(card.title, card.phase, card.bar, card.numbers, card.hosts.root, card.charts, card.trials);
  const drawn = [card.heat, card.loads, card.rates, card.latency, card.lateness];
  card.charts.append(...drawn.map(({ figure }) => figure));
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
  const said = new Set(pairs.map(([name]) => name));
  for (const [name, value] of card.values) {
    if (!said.has(name)) {
      value.parentElement.remove();
      card.values.delete(name);
    }
  }
}

function worst(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
}

function numbers(run) {
  const last = run.seconds.at(-1);
  const pairs = [
    ["asked for", rate(run.rate_per_s)],
    ["sent", count(run.sent)],
    [run.one_way ? "received" : "answered", count(run.came)],
    ["lost", run.sent && !run.one_way ? `${count(run.lost)} (${percent(run.lost / run.sent)})` : count(run.lost)],
    ["not sent", count(run.unsent)],
    // Percentiles of several hosts do not add up: of lateness the worst host's, of latency the heat map.
    ["late p99", duration(run.hosts.length ? worst(run.hosts.map((host) => host.lateness_p99_ns)) : last?.lateness_p99)],
  ];
  if (!run.one_way && !run.hosts.length) pairs.push(["latency p50", duration(last?.p50)], ["latency p99", duration(last?.p99)]);
  if (run.connections_asked) pairs.push(["connections", `${count(run.connections)} of ${count(run.connections_asked)}`]);
  for (const name of ["refused", "invalid", "late", "duplicate"]) if (run[name]) pairs.push([name, count(run[name])]);
  if (run.search) {
    const { search } = run;
    pairs.push(["trial", `${search.trial} at ${load(search.load, search.unit)}`]);
    if (run.command !== "sweep") pairs.push(["held", load(search.lower, search.unit)], ["failed", load(search.upper, search.unit)]);
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
    row.append(element("td", String(trial.trial)), element("td", load(trial.load, search.unit)));
    row.append(element("td", trial.verdict, { class: trial.verdict }));
    row.append(element("td", percent(trial.loss)), element("td", duration(trial.p99)));
    return row;
  });
  card.trialRows.replaceChildren(...rows);
  const loads = VERDICTS.map((verdict) => search.trials.map((trial) => (trial.verdict === verdict ? trial.load : null)));
  draw(card.loads, loads, (value) => load(value, search.unit), Math.max(search.trials.length, FEWEST_TRIALS));
}

function update(card, run) {
  const ahead = run.t_s < 0 ? `starts in ${(-run.t_s).toFixed(1)} s` : `${run.t_s.toFixed(1)} of ${run.total_s.toFixed(1)} s`;
  card.phase.textContent = run.search ? `${run.search.phase}; trial: ${run.phase}, ${ahead}` : `${run.phase}, ${ahead}`;
  const { search } = run;
  const share = search ? search.elapsed_s / search.budget_s : run.t_s / run.total_s;
  card.bar.value = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
  say(card, numbers(run));
  card.heat.show(run);
  card.hosts.show(run.hosts);
  // Charts of a trial that is over in a moment would come and go.
  const seconds = search && run.total_s < LONG_S ? [] : run.seconds, wide = room(run);
  draw(card.rates, [seconds.map((s) => s.planned), seconds.map((s) => s.came)], rate, wide);
  draw(card.latency, [seconds.map((s) => s.p50), seconds.map((s) => s.p99)], duration, wide);
  draw(card.lateness, [seconds.map((s) => s.lateness_p99)], duration, wide);
  if (search) showTrials(card, search);
}

export function show(runs) {
  const place = document.getElementById("live");
  document.getElementById("nothing-runs").hidden = runs.length > 0;
  const there = new Set(runs.map((run) => run.id));
  for (const [id, card] of cards) {
    if (!there.has(id)) {
      card.heat.end();
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
