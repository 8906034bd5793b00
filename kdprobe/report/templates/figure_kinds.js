"use strict";
/* How does plotly draw each kind of figure?  From the page's own data to traces and a layout. */
const figureKinds = (() => {
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const MARKS = ["circle", "square", "diamond", "triangle-up"];
  const INKS = ["supported", "contradicted", "undecided", "not-applicable"];
  const HEAT = [0, 1, 2, 3, 4].map((step) => [step / 4, `var(--heat-${step})`]);
  const MARKED = 30; // points; a longer line has no marks
  const WRITTEN = 400; // cells; a larger matrix is not written into
  const FEW = 1.5; // decades; a shorter logarithmic axis is also written at 2 and 5
  const LONGEST = 28; // letters of a name at an axis

  /* Plotly reads a few tags, and mathematics between dollars; here text is only shown. */
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", $: "&#36;" };
  const inert = (text) => text.replace(/[&<>$]/g, (sign) => ENTITIES[sign]);
  const short = (text) => (text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 1)}…`);
  const titled = (x, y) => ({ xaxis: { title: { text: inert(x) } }, yaxis: { title: { text: inert(y) } } });
  const places = (names) => names.map((_, place) => place);
  /* Positions instead of names: equal names stay apart, and names are never read as numbers. */
  const named = (names) => ({ tickmode: "array", tickvals: places(names), showgrid: false,
    ticktext: names.map((name) => inert(short(name))) });
  const bar = (more) => ({ thickness: 10, outlinewidth: 0, len: 0.95, ...more });

  function band(line, x) {
    const known = x.map((_, i) => i).filter((i) => line.low[i] !== null && line.high[i] !== null);
    const back = [...known].reverse();
    return { type: "scatter", x: [...known, ...back].map((i) => x[i]),
      y: [...known.map((i) => line.low[i]), ...back.map((i) => line.high[i])], fill: "toself",
      fillcolor: `var(--${line.ink}-band)`, line: { width: 0 }, mode: "lines", hoverinfo: "skip",
      showlegend: false, legendgroup: line.name };
  }

  function decades(all) {
    const known = all.flatMap((line) => line.y).filter((value) => value > 0);
    return known.length ? Math.log10(Math.max(...known) / Math.min(...known)) : 0;
  }

  function lines(figure) {
    const data = [];
    let x = [];
    for (const line of figure.lines) {
      x = line.x || x;
      const color = `var(--${line.ink})`;
      if (line.low) data.push(band(line, x));
      data.push({ type: "scatter", name: inert(short(line.name)), legendgroup: line.name, x, y: line.y,
        mode: x.length <= MARKED ? "lines+markers" : "lines",
        line: { color, width: 2.2, dash: DASHES[line.dash % DASHES.length] },
        marker: { color, size: 6, symbol: MARKS[line.dash % MARKS.length] }, hovertemplate: "%{y:.4~g}" });
    }
    const layout = titled(figure.x, figure.y);
    if (figure.log) Object.assign(layout.yaxis, { type: "log", dtick: decades(figure.lines) > FEW ? 1 : "D2" });
    if (figure.names) {
      Object.assign(layout.xaxis, named(figure.names), { tickvals: figure.names.map((_, i) => i + 1) });
      layout.hovermode = "x unified";
    }
    return { data, layout };
  }

  function heatmap(figure) {
    const { rows, columns, z } = figure;
    const trace = { type: "heatmap", z, x: places(columns), y: places(rows), zmin: figure.low, zmax: figure.high,
      colorscale: HEAT, xgap: 2, ygap: 2, colorbar: bar(), customdata: rows.map((row) => columns.map((column) => [inert(row), inert(column)])),
      hovertemplate: "%{customdata[0]}, %{customdata[1]}: %{z:.4~g}<extra></extra>" };
    const small = z.flat().every((value) => Math.abs(value) < 10);
    if (rows.length * columns.length <= WRITTEN) trace.texttemplate = small ? "%{z:.2f}" : "%{z:.3~g}";
    const layout = titled(figure.x, figure.y);
    Object.assign(layout.xaxis, named(columns));
    Object.assign(layout.yaxis, named(rows), { autorange: "reversed" });
    return { data: [trace], layout: { ...layout, plot_bgcolor: "var(--missing)" } };
  }

  function track(way, place) {
    const color = `var(--${way.ink})`, name = inert(short(way.name));
    return { type: "scatter", name, x: way.x, y: way.y, text: way.x.map((_, i) => (i === way.x.length - 1 ? name : "")),
      customdata: way.x.map((_, i) => inert(way.labels[i] || "")), textposition: "top center", mode: "lines+markers+text",
      line: { color, width: 2.2 }, marker: { color, size: 7, symbol: MARKS[place % MARKS.length] },
      hovertemplate: `%{customdata}<extra>${name}</extra>`, showlegend: false };
  }

  function surface(figure) {
    const ground = { type: "contour", x: figure.across, y: figure.up, z: figure.z, colorscale: HEAT, ncontours: 18,
      line: { width: 0.8, color: "var(--contour)" }, colorbar: bar({ title: { text: inert(figure.value), side: "right" } }),
      hovertemplate: "%{x:.3~g}, %{y:.3~g}: %{z:.4~g}<extra></extra>" };
    return { data: [ground, ...figure.tracks.map(track)], layout: titled(figure.x, figure.y) };
  }

  function effect([, verdict, value, low, high], place) {
    const ink = verdict.replace(" ", "-"), color = `var(--${INKS.includes(ink) ? ink : "plain"})`;
    const trace = { type: "scatter", x: [value], y: [place], mode: "markers", showlegend: false,
      marker: { color, size: 10, symbol: "diamond" }, hovertemplate: "%{x:.4~g}<extra></extra>" };
    if (low === null || high === null) return trace;
    trace.hovertemplate = `%{x:.4~g} [${low}, ${high}]<extra></extra>`;
    trace.error_x = { type: "data", symmetric: false, array: [high - value], arrayminus: [value - low],
      color, thickness: 2.2, width: 4 };
    return trace;
  }

  function forest(figure) {
    const names = figure.rows.map(([name, verdict]) => short(name) + (verdict ? ` (${verdict})` : ""));
    const data = figure.rows.map(effect).filter((trace) => trace.x[0] !== null);
    const layout = titled(figure.x, "");
    Object.assign(layout.yaxis, named(names), { range: [names.length - 0.4, -0.6], zeroline: false,
      ticktext: names.map(inert) });
    const line = { color: "var(--muted)", width: 1.2, dash: "dash" };
    layout.xaxis.zeroline = false;
    layout.shapes = [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, layer: "between", line }];
    return { data, layout: { ...layout, hovermode: "closest" } };
  }

  const kinds = { lines, heatmap, surface, forest };
  return { of: (figure) => kinds[figure.kind](figure), inert, short, HEAT };
})();
