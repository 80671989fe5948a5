// Small charts as SVG that is made once: lines over the seconds of a run, and the trials of a search as dots.

import { element } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
// At most so many seconds are sent of a run; fewer columns than that are not drawn wider.
const SECONDS = 120, FEWEST = 5;

/* How many seconds a run's charts have room for. */
export function room(run) {
  return Math.max(run.seconds.length, FEWEST, Math.min(Math.ceil(run.total_s), SECONDS));
}

/* `lines`: style and name of each; `log`: the scale begins at the least value and not at 0. */
export function chart(title, lines, { log = false, dots = false } = {}) {
  const figure = element("figure", "", { hidden: "" }), plot = element("div", "", { class: "plot" });
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const paths = lines.map(([style]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", dots ? `${style} dot` : style);
    svg.append(path);
    return path;
  });
  const caption = element("figcaption", `${title}: `);
  lines.forEach(([style, name], n) => caption.append(element("span", (n ? ", " : "") + name, { class: style })));
  const highest = element("span"), lowest = element("span");
  plot.append(highest, lowest, svg);
  figure.append(plot, caption);
  return { figure, paths, highest, lowest, log, dots };
}

/* `series`: values of each line, null where there is none; `shown`: a value as text; `wide`: room for so many. */
export function draw(drawn, series, shown, wide) {
  const known = series.flat().filter((value) => value !== null && (!drawn.log || value > 0));
  const most = Math.max(0, ...known), least = drawn.log ? Math.min(...known) : 0;
  drawn.figure.hidden = known.length === 0 || most === 0;
  if (drawn.figure.hidden) return;
  drawn.highest.textContent = shown(most);
  drawn.lowest.textContent = most === least ? "" : shown(least);
  const height = (value) => {
    if (most === least) return drawn.log ? 0.5 : 1;
    return drawn.log ? Math.log(Math.max(value, least) / least) / Math.log(most / least) : value / most;
  };
  series.forEach((values, n) => {
    let begun = false;
    const points = values.map((value, i) => {
      if (value === null) { begun = false; return ""; }
      const at = `${((100 * (i + 0.5)) / wide).toFixed(2)} ${(96 - 92 * height(value)).toFixed(2)}`;
      // A line of no length, so that a value without neighbours is a dot.
      const point = begun ? `L${at}` : `M${at}h0`;
      begun = !drawn.dots;
      return point;
    });
    drawn.paths[n].setAttribute("d", points.join(""));
  });
}
