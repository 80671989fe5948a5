// The hosts of a fleet: a row each, made once; its texts are changed.

import { count, duration, element, heading, rate } from "./format.js";

// A host tells something four times a second; after so long without a word it is in trouble.
const SILENT_S = 2;

const COLUMNS = [
  ["phase", (host) => (silent(host) ? `no word for ${host.silent_s.toFixed(0)} s` : host.phase)],
  ["rate", (host) => rate(host.rate_per_s)],
  ["answered", (host) => count(host.answered)],
  ["lost", (host) => count(host.lost)],
  ["not sent", (host) => count(host.unsent)],
  ["late p99", (host) => duration(host.lateness_p99_ns)],
];

function silent(host) {
  return host.silent_s >= SILENT_S && host.phase !== "done";
}

export class Hosts {
  constructor() {
    this.root = element("div", "", { class: "hosts", hidden: "" });
    this.body = element("tbody");
    this.rows = new Map();
    const table = element("table");
    table.append(heading(["host", ...COLUMNS.map(([title]) => title)]), this.body);
    this.root.append(table);
  }

  show(hosts) {
    this.root.hidden = hosts.length === 0;
    const there = new Set(hosts.map((host) => host.host));
    for (const [name, row] of this.rows) {
      if (!there.has(name)) {
        row.remove();
        this.rows.delete(name);
      }
    }
    for (const host of hosts) {
      if (!this.rows.has(host.host)) {
        const row = element("tr");
        row.append(element("td", host.host), ...COLUMNS.map(([title]) => element("td", "", { "data-name": title })));
        this.rows.set(host.host, row);
        this.body.append(row);
      }
      const row = this.rows.get(host.host);
      row.className = silent(host) || host.unsent > 0 ? "failed" : "";
      COLUMNS.forEach(([, text], n) => {
        const cell = row.cells[n + 1], now = text(host);
        if (cell.textContent !== now) cell.textContent = now;
      });
    }
  }
}
