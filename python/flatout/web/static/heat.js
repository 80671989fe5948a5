// A heat map of latency: seconds across, latency up on a log scale, a cell's colour is how many requests it has.

import { count, duration, element } from "./format.js";

// Band n of the feed begins at 10^(n / BANDS) ns.
const BANDS = 10;
// Fewer rows and columns than these are not drawn larger.
const ROWS = 15, COLUMNS = 30, MOST = 120;
// Room for the labels, in CSS pixels, and between two of them.
const LEFT = 52, TOP = 6, RIGHT = 4, BOTTOM = 20, APART = 44;
const HINT = "Point at a cell, or tap it, to read it.";

const start = (band) => 10 ** (band / BANDS);

/* What is drawn of a run's `latency`: columns, bands from `low` to below `high`, and the largest count. */
export function model(run) {
  const columns = run.latency;
  let low = Infinity, high = -Infinity, most = 0;
  for (const { first, counts } of columns) {
    low = Math.min(low, first);
    high = Math.max(high, first + counts.length);
    for (const one of counts) most = Math.max(most, one);
  }
  const missing = Math.max(0, ROWS - (high - low));
  low = Math.max(0, low - Math.ceil(missing / 2));
  high = Math.max(high, low + ROWS);
  const expected = run.search ? COLUMNS : Math.max(5, Math.min(Math.ceil(run.total_s), MOST));
  return { columns, low, high, most, wide: Math.max(columns.length, expected) };
}

export class HeatMap {
  constructor() {
    const { figure, canvas, most, reading } = made();
    Object.assign(this, { figure, canvas, most, reading, model: null, key: "", chosen: null });
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(canvas);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.themed = () => this.draw();
    this.theme.addEventListener("change", this.themed);
    for (const name of ["pointermove", "pointerdown"]) canvas.addEventListener(name, (event) => this.choose(this.under(event)));
    canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") this.choose(null); });
    canvas.addEventListener("keydown", (event) => this.step(event));
  }

  /* The card is gone. */
  end() {
    this.sized.disconnect();
    this.theme.removeEventListener("change", this.themed);
  }

  show(run) {
    this.figure.hidden = run.latency.length === 0;
    if (this.figure.hidden) return;
    const last = run.latency.at(-1);
    const key = `${run.latency.length} ${last.trial} ${last.t_s}`;
    if (key === this.key) return;
    this.key = key;
    this.model = model(run);
    this.most.textContent = count(this.model.most);
    this.draw();
  }

  draw() {
    const { canvas, model: shown } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, scale = devicePixelRatio || 1;
    if (!shown || width === 0) return;
    const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
    const context = canvas.getContext("2d"), style = getComputedStyle(canvas);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${style.fontFamily}`;
    this.scale = scale;
    this.area = { x: LEFT, y: TOP, width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
    this.cells(context, [0, 1, 2].map((n) => rgb(style.getPropertyValue(`--heat-${n}`))));
    Object.assign(context, { fillStyle: style.color, strokeStyle: style.color });
    this.latencies(context);
    this.times(context);
    this.mark(context);
  }

  /* Where a cell begins, on whole pixels of the screen: no seams between cells. */
  x(column) {
    return Math.round((this.area.x + (column * this.area.width) / this.model.wide) * this.scale) / this.scale;
  }

  y(band) {
    const { low, high } = this.model;
    return Math.round((this.area.y + ((high - band) * this.area.height) / (high - low)) * this.scale) / this.scale;
  }

  cells(context, colours) {
    const { columns, most } = this.model;
    columns.forEach(({ first, counts, trial }, column) => {
      // A gap where another trial begins.
      const gap = column > 0 && trial !== columns[column - 1].trial ? 1 : 0;
      const left = this.x(column) + gap, right = this.x(column + 1);
      counts.forEach((requests, n) => {
        if (requests === 0) return;
        const top = this.y(first + n + 1);
        context.fillStyle = mixed(colours, most > 1 ? Math.log(requests) / Math.log(most) : 1);
        context.fillRect(left, top, right - left, this.y(first + n) - top);
      });
    });
  }

  /* A line and a label a decade. */
  latencies(context) {
    const { low, high } = this.model, { x, width } = this.area;
    Object.assign(context, { textAlign: "right", textBaseline: "middle" });
    for (let band = Math.ceil(low / BANDS) * BANDS; band <= high; band += BANDS) {
      const y = this.y(band);
      context.globalAlpha = 0.3;
      context.fillRect(x, y, width, 1);
      context.globalAlpha = 1;
      context.fillText(duration(start(band)).replace(/\.0+(?= )/, ""), x - 6, Math.max(y, 8));
    }
  }

  /* Seconds of a run; of a search the trials. */
  times(context) {
    const { columns, wide } = this.model, { y, height, width } = this.area;
    Object.assign(context, { textAlign: "left", textBaseline: "top" });
    const step = [1, 2, 5, 10, 20, 30, 60].find((each) => (each * width) / wide >= APART) ?? 60;
    let free = 0;
    columns.forEach((column, n) => {
      const x = this.x(n);
      const begins = column.trial !== null && column.trial !== columns[n - 1]?.trial;
      const second = Math.round(column.t_s) - 1;
      if (x < free || !(begins || (column.trial === null && second % step === 0))) return;
      const text = begins ? `${free === 0 ? "trial " : ""}${column.trial}` : `${second} s`;
      context.fillText(text, x + 1, y + height + 5);
      free = x + context.measureText(text).width + 12;
    });
  }

  mark(context) {
    this.reading.textContent = HINT;
    const cell = this.chosen;
    const column = cell && this.model.columns[cell.column];
    if (!column || cell.band < this.model.low || cell.band >= this.model.high) return;
    const [left, top] = [this.x(cell.column), this.y(cell.band + 1)];
    context.lineWidth = 1.5;
    context.strokeRect(left, top, this.x(cell.column + 1) - left, this.y(cell.band) - top);
    this.reading.textContent = said(column, cell.band);
  }

  choose(cell) {
    if (cell?.column === this.chosen?.column && cell?.band === this.chosen?.band) return;
    this.chosen = cell;
    this.draw();
  }

  under(event) {
    if (!this.model || !this.area) return null;
    const { low, high, columns } = this.model, { offsetX, offsetY } = event;
    const column = columns.findIndex((_, n) => offsetX >= this.x(n) && offsetX < this.x(n + 1));
    const from = Array.from({ length: high - low }, (_, n) => low + n);
    const band = from.find((each) => offsetY >= this.y(each + 1) && offsetY < this.y(each));
    return column >= 0 && band !== undefined ? { column, band } : null;
  }

  /* The arrow keys go from cell to cell. */
  step(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by || !this.model) return;
    event.preventDefault();
    const { columns, low, high } = this.model;
    const from = this.chosen ?? { column: columns.length, band: columns.at(-1).first };
    const within = (value, least, most) => Math.min(Math.max(value, least), most);
    this.choose({ column: within(from.column + by[0], 0, columns.length - 1), band: within(from.band + by[1], low, high - 1) });
  }
}

function made() {
  const figure = element("figure", "", { class: "heat", hidden: "" });
  const canvas = element("canvas", "", { tabindex: "0", role: "img", "aria-label": "heat map of latency: seconds across, latency up" });
  const caption = element("figcaption", "latency from due, by second; requests a cell: ");
  const most = element("span"), reading = element("output");
  caption.append(element("span", "1 "), element("i", "", { "aria-hidden": "true" }), element("span", " "), most);
  figure.append(canvas, caption, reading);
  return { figure, canvas, most, reading };
}

function said(column, band) {
  const whole = column.counts.reduce((sum, one) => sum + one, 0);
  const when = `${column.trial === null ? "" : `trial ${column.trial}, `}second ${Math.ceil(column.t_s - 0.001)}`;
  const requests = column.counts[band - column.first] ?? 0;
  return `${when}, ${duration(start(band))} to ${duration(start(band + 1))}: ${count(requests)} of ${count(whole)} requests`;
}

function rgb(text) {
  return text.match(/[\d.]+/g).slice(0, 3).map(Number);
}

function mixed(colours, share) {
  const [from, to, at] = share < 0.5 ? [colours[0], colours[1], share * 2] : [colours[1], colours[2], share * 2 - 1];
  return `rgb(${from.map((one, n) => Math.round(one + (to[n] - one) * at)).join(" ")})`;
}
