"use strict";
/* When is a figure drawn?  When it comes near the screen, or when there is time: sketches stand till then. */
const plots = (() => {
  const MOST_FIGURES = 200; // of a page that are interactive; the sketches of the others stay
  const PAUSE = 200; // milliseconds that drawing beyond the screen waits for the reader at most
  const UNPAINTED = 1000; // milliseconds that the first painting of the page is waited for
  const idle = window.requestIdleCallback || ((act) => setTimeout(act, 0));
  const root = document.documentElement;
  const boxes = [...document.querySelectorAll(".plot")];
  const sources = new Map([...document.querySelectorAll("[data-plot]")].map((source) => [source.dataset.plot, source]));
  const config = { displaylogo: false, showSendToCloud: false, responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage"] };

  const titleOf = (box) => document.getElementById(`${box.id}-title`).textContent;
  const figureOf = (box) => (sources.has(box.id) ? JSON.parse(sources.get(box.id).textContent) : null);

  /* The value with every colour variable replaced by its value in the theme in use. */
  function themed(value, style = getComputedStyle(root)) {
    if (typeof value === "string") {
      return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() || value : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
  }

  function layoutOf(own, height) {
    const axis = { gridcolor: "var(--rule)", linecolor: "var(--muted)", zerolinecolor: "var(--rule)",
      automargin: true, ticks: "", exponentformat: "power", title: { standoff: 10, font: { size: 12, color: "var(--muted)" } } };
    const merged = (base, more = {}) => ({ ...base, ...more, title: { ...base.title, ...more.title } });
    return { ...own, height, autosize: true, xaxis: merged(axis, own.xaxis), yaxis: merged(axis, own.yaxis),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: own.plot_bgcolor || "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: "var(--ink)" },
      margin: { l: 8, r: 8, t: 8, b: 8 }, hovermode: own.hovermode || (own.xaxis.tickvals ? "closest" : "x unified"),
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--rule)", font: { color: "var(--ink)" } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      modebar: { color: "var(--muted)", activecolor: "var(--ink)", bgcolor: "rgba(0,0,0,0)" } };
  }

  /* What plotly draws, in the colours of now. */
  function shown(figure) {
    const { data, layout } = figureKinds.of(figure);
    return themed({ data, layout: layoutOf(layout, figure.height) });
  }

  async function draw(box) {
    const figure = figureOf(box);
    let place = box.querySelector(".live");
    if (!place) {
      place = document.createElement("div");
      place.className = "live";
      box.append(place);
    }
    const { data, layout } = shown(figure);
    await window.Plotly.react(place, data, layout, config);
    box.querySelector(".sketch")?.remove();
    box.dataset.drawn = "true";
  }

  async function unpack() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }
  let loading = null;
  const loaded = () => (loading ||= unpack());

  function say(box, words) {
    const note = document.createElement("p");
    note.className = "how still";
    note.textContent = words;
    box.after(note);
  }

  /* The figures that can be interactive; of the others the page says why they are not. */
  function moving() {
    const able = boxes.filter((box) => sources.has(box.id) && !("still" in sources.get(box.id).dataset));
    for (const box of able.slice(MOST_FIGURES)) {
      say(box, `A still picture: only the first ${MOST_FIGURES} figures of a page are interactive.`);
    }
    return able.slice(0, MOST_FIGURES);
  }

  function drawAll(able) {
    const waiting = new Set(able);
    let chain = Promise.resolve();
    const take = (box) => {
      if (!waiting.delete(box)) return;
      chain = chain.then(() => draw(box)).catch((error) => {
        box.querySelector(".live")?.remove();
        say(box, "A still picture: the interactive figure could not be drawn.");
        console.error(error);
      });
    };
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) take(entry.target);
    }, { rootMargin: "400px" });
    for (const box of able) seen.observe(box);
    const rest = async () => {
      for (const box of able) {
        take(box);
        await chain;
        await new Promise((next) => idle(next, { timeout: PAUSE }));
      }
      seen.disconnect();
      root.dataset.ready = "true";
    };
    idle(rest, { timeout: PAUSE });
    addEventListener("beforeprint", () => able.forEach(take));
  }

  document.addEventListener("themechange", () => {
    for (const box of boxes) if (box.dataset.drawn) draw(box).catch(console.error);
  });
  const start = () => {
    const able = moving();
    if (!able.length) root.dataset.ready = "true";
    else loaded().then(() => drawAll(able)).catch((error) => {
      for (const box of able) say(box, "A still picture: this browser cannot unpack interactive figures.");
      console.error(error);
    });
  };
  /* The sketches are painted first; a frame that is not shown yet is never painted, and does not wait for it. */
  Promise.race([new Promise(requestAnimationFrame), new Promise((next) => setTimeout(next, UNPAINTED))])
    .then(() => setTimeout(start, 0));
  return { boxes, figureOf, titleOf, shown, themed, loaded };
})();
