// Puts each chart's description on the page and gives it the style sheet's colours. Nothing is computed or fetched here.
"use strict";
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const plots = [];
  const drawn = [];

  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };

  const paintAxis = (axis) => axis.setv({
    axis_line_color: colour("rule"), major_tick_line_color: colour("rule"),
    major_label_text_color: colour("soft"), axis_label_text_color: colour("soft"),
    major_label_text_font_size: "12px", axis_label_text_font_size: "12px",
  });

  const paintSeries = (series) => {
    const value = colour(series.tags[0]);
    for (const name of ["glyph", "nonselection_glyph", "muted_glyph", "selection_glyph", "hover_glyph"]) {
      const glyph = series[name];
      if (!glyph || glyph === "auto" || typeof glyph.setv !== "function") continue;
      glyph.setv({line_color: value});
      if ("fill_color" in glyph) glyph.setv({fill_color: value});
      if ("hatch_color" in glyph) glyph.setv({hatch_color: colour("card")});
    }
  };

  const paint = (plot) => {
    for (const panel of [plot.above, plot.below, plot.left, plot.right].flat()) {
      if ("major_label_text_color" in panel) paintAxis(panel);
    }
    for (const part of plot.center) {
      if ("grid_line_color" in part) part.setv({grid_line_color: colour("rule")});
      else if (part.tags?.length) part.setv({line_color: colour(part.tags[0])});
    }
    for (const series of plot.renderers) if (series.tags.length) paintSeries(series);
  };
  const paintAll = () => plots.forEach(paint);

  const draw = async (figure) => {
    const data = figure.querySelector("script[type='application/json']");
    if (!data) return;
    const views = await Bokeh.embed.embed_item(JSON.parse(data.textContent), figure.querySelector(".plot"));
    const view = [...views][0];
    const plot = view.model;
    plots.push(plot);
    drawn.push(view);
    paint(plot);
    for (const button of figure.querySelectorAll("[data-series]")) {
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const series of plot.renderers) if (series.name === button.dataset.series) series.visible = shown;
      });
    }
  };

  const button = document.getElementById("theme");
  const choose = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    paintAll();
  };
  const chosen = () => root.dataset.theme ?? "auto";
  button.addEventListener("click", () => choose(themes[(themes.indexOf(chosen()) + 1) % themes.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAll);

  // Paper is white, narrower than a screen and has no folds; printing does not wait for the next frame.
  const PAPER_PX = 620;
  const fit = (view, width) => { view.el.parentElement.style.zoom = Math.min(1, width / view.el.clientWidth); };
  let before = "auto";
  addEventListener("beforeprint", () => {
    before = chosen();
    choose("light");
    for (const view of drawn) { view.repaint?.(); fit(view, PAPER_PX); }
    for (const fold of document.querySelectorAll("details")) fold.open = true;
  });
  addEventListener("afterprint", () => {
    choose(before);
    for (const view of drawn) fit(view, Infinity);
  });

  document.querySelectorAll("figure").forEach(draw);
})();
