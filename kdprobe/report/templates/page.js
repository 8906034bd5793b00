"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const wide = { displaylogo: false, showSendToCloud: false, responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  function themed(value, style) {
    if (typeof value === "string") {
      return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
  }

  function layoutOf(own, height) {
    const axis = { gridcolor: "var(--rule)", linecolor: "var(--muted)", zerolinecolor: "var(--rule)",
      automargin: true, ticks: "", title: { standoff: 10, font: { size: 12, color: "var(--muted)" } } };
    const merged = (base, more = {}) => ({ ...base, ...more, title: { ...base.title, ...more.title } });
    return { ...own, height, autosize: true, xaxis: merged(axis, own.xaxis), yaxis: merged(axis, own.yaxis),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: own.plot_bgcolor || "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: "var(--ink)" },
      margin: { l: 8, r: 8, t: 8, b: 8 }, hovermode: own.hovermode || (own.xaxis.tickvals ? "closest" : "x unified"),
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--rule)", font: { color: "var(--ink)" } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      modebar: { color: "var(--muted)", activecolor: "var(--ink)", bgcolor: "rgba(0,0,0,0)" } };
  }

  async function draw(box) {
    const { data, layout, height } = JSON.parse(document.querySelector(`[data-plot="${box.id}"]`).textContent);
    const style = getComputedStyle(root);
    const image = { format: "svg", filename: box.getAttribute("aria-label").slice(0, 60).replace(/\W+/g, "-") };
    const shape = themed(layoutOf(layout, height), style);
    await window.Plotly.react(box, themed(data, style), shape, { ...wide, toImageButtonOptions: image });
    box.dataset.drawn = "true";
    if (plots.every((plot) => plot.dataset.drawn)) root.dataset.ready = "true";
  }

  async function loadPlotly() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  function drawAll() {
    const waiting = new Set(plots);
    let chain = Promise.resolve();
    const take = (box) => {
      if (!waiting.delete(box)) return;
      chain = chain.then(() => draw(box)).catch((error) => {
        box.textContent = "This figure could not be drawn.";
        console.error(error);
      });
    };
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) take(entry.target);
    }, { rootMargin: "400px" });
    for (const box of plots) seen.observe(box);
    const rest = async () => {
      for (const box of plots) {
        take(box);
        await chain;
        await new Promise((next) => setTimeout(next, 0));
      }
      seen.disconnect();
    };
    (window.requestIdleCallback || setTimeout)(rest);
    addEventListener("beforeprint", () => plots.forEach(take));
  }

  function themeSwitch() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const show = () => {
      button.textContent = dark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
      for (const box of plots) if (box.dataset.drawn) draw(box);
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      show();
    });
    system.addEventListener("change", show);
    show();
  }

  function followSections() {
    const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
    const mark = () => {
      const past = [...links.keys()].filter((id) => document.getElementById(id).getBoundingClientRect().top < 140);
      const here = past.at(-1) || links.keys().next().value;
      for (const [id, link] of links) {
        if (id === here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  }

  function openTarget() {
    for (const fold of document.querySelectorAll("details")) {
      addEventListener("beforeprint", () => { fold.open = true; });
    }
  }

  themeSwitch();
  followSections();
  openTarget();
  if (!plots.length) root.dataset.ready = "true";
  else loadPlotly().then(drawAll).catch((error) => {
    for (const box of plots) box.textContent = "This browser cannot unpack the figures; report.pdf shows them.";
    console.error(error);
  });
})();
