"use strict";
/* How does a surface look from the side?  One 3-D view for the whole page, made when it is asked for. */
(() => {
  const TURN = 10, NEARER = 1.15; // degrees of a step, factor of a step
  const STRIDES = 8; // steps between two points of a way
  const LIFT = 0.012; // of the height, so that a way lies on the ground and not in it
  const surfaces = plots.boxes.map((box) => ({ box, figure: plots.figureOf(box) })).filter(({ figure }) => figure?.kind === "surface");
  const eye = { turn: 45, rise: 32, far: 2.1 };
  let dialog = null, at = 0;

  function has3d() {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("webgl");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return Boolean(context);
  }

  /* Between the nodes of the grid, linear along both axes; null outside it or beside a gap. */
  function heightAt({ across, up, z }, a, b) {
    const place = (nodes, value) => {
      const i = Math.min(Math.max(nodes.findLastIndex((node) => node <= value), 0), Math.max(nodes.length - 2, 0));
      const step = nodes[i + 1] - nodes[i];
      return [i, Math.min(i + 1, nodes.length - 1), step ? (value - nodes[i]) / step : 0];
    };
    const [i, i2, s] = place(across, a), [j, j2, t] = place(up, b);
    const corners = [z[j][i], z[j][i2], z[j2][i], z[j2][i2]];
    if (corners.includes(null) || s < -0.01 || s > 1.01 || t < -0.01 || t > 1.01) return null;
    return (corners[0] * (1 - s) + corners[1] * s) * (1 - t) + (corners[2] * (1 - s) + corners[3] * s) * t;
  }

  /* The way with steps between its points, so that it follows the ground. */
  function followed({ x, y }) {
    const between = (values) => values.flatMap((value, i) => (i ? Array.from({ length: STRIDES },
      (_, k) => values[i - 1] + ((k + 1) / STRIDES) * (value - values[i - 1])) : [value]));
    return { x: between(x), y: between(y) };
  }

  function way(figure, track, lift) {
    const color = `var(--${track.ink})`, name = figureKinds.inert(figureKinds.short(track.name));
    const lifted = ({ x, y }) => x.map((a, i) => heightAt(figure, a, y[i])).map((height) => (height === null ? null : height + lift));
    const path = followed(track), common = { type: "scatter3d", name, legendgroup: name };
    return [{ ...common, ...path, z: lifted(path), mode: "lines", line: { color, width: 6 }, hoverinfo: "skip" },
      { ...common, x: track.x, y: track.y, z: lifted(track), mode: "markers", marker: { color, size: 4 }, showlegend: false,
        text: track.x.map((_, i) => figureKinds.inert(track.labels[i] || "")), hovertemplate: `%{text}<extra>${name}</extra>` }];
  }

  function camera() {
    const [turn, rise] = [eye.turn, eye.rise].map((angle) => (angle * Math.PI) / 180);
    const far = eye.far * Math.max(1, place().clientHeight / Math.max(place().clientWidth, 1));
    const flat = far * Math.cos(rise);
    return { eye: { x: flat * Math.cos(turn), y: flat * Math.sin(turn), z: far * Math.sin(rise) }, center: { x: 0, y: 0, z: -0.12 } };
  }

  function view(figure) {
    const known = figure.z.flat().filter((value) => value !== null);
    const lift = LIFT * (Math.max(...known) - Math.min(...known));
    const ground = { type: "surface", x: figure.across, y: figure.up, z: figure.z, colorscale: figureKinds.HEAT, showscale: false,
      contours: { z: { show: true, usecolormap: false, color: "var(--muted)", width: 1 } },
      lighting: { ambient: 0.62, diffuse: 0.45, specular: 0.05 }, hovertemplate: "%{x:.3~g}, %{y:.3~g}: %{z:.4~g}<extra></extra>" };
    const axis = (text) => ({ title: { text: figureKinds.inert(text) }, gridcolor: "var(--rule)", color: "var(--muted)", showbackground: false });
    const scene = { xaxis: axis(figure.x), yaxis: axis(figure.y), zaxis: axis(figure.value), camera: camera(), aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.7 } };
    const layout = { scene, autosize: true, margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: "var(--ink)" }, legend: { orientation: "h", x: 0.02, y: 0.98 }, showlegend: figure.tracks.length > 0 };
    return plots.themed({ data: [ground, ...figure.tracks.flatMap((track) => way(figure, track, lift))], layout });
  }

  const place = () => dialog.querySelector(".relief-view");

  async function draw() {
    const { box, figure } = surfaces[at];
    dialog.querySelector("select").value = String(at);
    place().setAttribute("aria-label", `${plots.titleOf(box)}, seen from the side. Arrow keys turn it, plus and minus bring it nearer or farther.`);
    if (!has3d()) {
      place().textContent = "This browser shows no 3-D (it has no WebGL). The contours in the page show the same heights.";
      return;
    }
    await plots.loaded();
    const { data, layout } = view(figure);
    await window.Plotly.react(place(), data, layout, { displaylogo: false, responsive: true, displayModeBar: false });
    place().dataset.drawn = String(at);
  }

  function turn(by, up, factor) {
    eye.turn = (eye.turn + by + 360) % 360;
    eye.rise = Math.min(Math.max(eye.rise + up, 0), 89);
    eye.far = Math.min(Math.max(eye.far * factor, 0.8), 5);
    if (place().dataset.drawn) window.Plotly.relayout(place(), { "scene.camera": camera() });
  }

  const MOVES = { ArrowLeft: [-TURN, 0, 1], ArrowRight: [TURN, 0, 1], ArrowUp: [0, TURN, 1], ArrowDown: [0, -TURN, 1],
    "+": [0, 0, 1 / NEARER], "-": [0, 0, NEARER] };
  const NAMES = { ArrowLeft: ["←", "Turn left"], ArrowRight: ["→", "Turn right"], ArrowUp: ["↑", "Look from higher"],
    ArrowDown: ["↓", "Look from lower"], "+": ["+", "Nearer"], "-": ["−", "Farther"] };

  function build() {
    dialog = document.createElement("dialog");
    dialog.className = "relief";
    dialog.setAttribute("aria-label", "Surfaces in 3-D");
    const bar = document.createElement("div"), label = document.createElement("label"), choice = document.createElement("select"), scene = document.createElement("div");
    bar.className = "relief-bar";
    surfaces.forEach(({ box }, i) => choice.append(new Option(plots.titleOf(box), String(i))));
    choice.addEventListener("change", () => { at = Number(choice.value); draw(); });
    label.append("Surface ", choice);
    const turns = Object.entries(NAMES).map(([key, [sign, name]]) => figureFiles.button(sign, name, () => turn(...MOVES[key])));
    bar.append(label, ...turns, figureFiles.button("Close", "Close the 3-D view", () => dialog.close()));
    Object.assign(scene, { className: "relief-view", tabIndex: 0 });
    scene.setAttribute("role", "application");
    scene.addEventListener("keydown", (event) => {
      if (!MOVES[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      turn(...MOVES[event.key]);
    });
    dialog.addEventListener("close", () => {
      if (place().dataset.drawn) window.Plotly.purge(place());
      delete place().dataset.drawn;
    });
    dialog.append(bar, scene);
    document.body.append(dialog);
  }

  function open(which) {
    if (!dialog) build();
    at = which;
    dialog.showModal();
    draw();
  }

  surfaces.forEach(({ box }, i) => {
    const ask = figureFiles.button("3-D", `Show in 3-D: ${plots.titleOf(box)}`, () => open(i));
    box.nextElementSibling.prepend(ask);
  });
  document.addEventListener("themechange", () => { if (dialog?.open) draw(); });
})();
