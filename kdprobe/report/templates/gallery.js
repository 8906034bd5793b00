"use strict";
(() => {
  const PACE = 700; // milliseconds of an epoch while it plays
  const BUDGET = 8; // milliseconds of drawing in one frame
  const DIFFERENT = 0.1; // share of the cells on which networks disagree
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const { put } = galleryFull;

  function gallery(root, data) {
    const form = root.querySelector(".controls"), grid = root.querySelector(".live"), told = root.querySelector(".told");
    const field = (name) => form.elements.namedItem(name);
    const view = {};
    const near = new Set();
    let playing = 0, waiting = 0, telling = 0;

    function read() {
      const value = (name, otherwise) => (field(name) ? Number(field(name).value) : otherwise);
      view.layer = value("layer", 0);
      view.epoch = value("epoch");
      view.steps = value("threshold");
      view.blend = value("blend");
      view.object = field("object").checked;
      view.concepts = field("concepts").checked;
      view.networks = [...form.querySelectorAll('[name="network"]:checked')].map((box) => Number(box.value));
    }

    const epochText = (network) => {
      const own = galleryData.epochOf(data, view, network);
      return own === data.epochs[view.epoch] ? "" : `epoch ${own}`;
    };

    const moment = () => [data.layers[view.layer], `epoch ${data.epochs[view.epoch]}`].join(", ");

    function caption(network, image) {
      const name = document.createElement("strong");
      if (network === null) {
        name.textContent = "image";
        return [name];
      }
      const own = data.networks[network], { on, off } = galleryData.tally(data, view, network, image);
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = own.ink;
      name.textContent = name.title = own.name;
      const note = [`${on} on object, ${off} off`, epochText(network)].filter(Boolean).join(" · ");
      return [swatch, name, document.createElement("br"), note];
    }

    function alt(network, image) {
      const { name, label } = data.pictures[image];
      if (network === null) return `Image ${name}${label ? ` of class ${label}` : ""}.`;
      const { on, off, units } = galleryData.tally(data, view, network, image);
      const own = data.networks[network].name, epoch = galleryData.epochOf(data, view, network);
      return `What ${own} keeps of ${name} at ${data.layers[view.layer]}, epoch ${epoch}: ${on + off} of ${units} cells are concepts, ${on} on the object.`;
    }

    const rows = data.pictures.map(({ name, label }, image) => {
      const figure = put("figure", "picture", grid);
      const head = put("figcaption", "", figure);
      const button = put("button", "open", head);
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-label", `Open ${name}${label ? `, class ${label}` : ""}`);
      put("span", "label", head).textContent = label ? `class ${label}` : "";
      const change = put("span", "change", head), box = put("div", "tiles", figure);
      const tiles = [null, ...data.networks.keys()].map((network) => {
        const tile = put("div", "tile", box);
        const canvas = put("canvas", "", tile);
        canvas.setAttribute("role", "img");
        canvas.style.aspectRatio = `${data.shape[1]} / ${data.shape[0]}`;
        canvas.addEventListener("click", () => full.open(image, network));
        return { network, tile, canvas, text: put("p", "", tile) };
      });
      button.addEventListener("click", () => full.open(image));
      return { image, figure, button, change, tiles, stale: true };
    });

    /* Words come before pictures: those who read them do not wait for a tile to be near. */
    function word(row) {
      row.untold = false;
      for (const { network, tile, canvas, text } of row.tiles) {
        tile.hidden = network !== null && !view.networks.includes(network);
        if (tile.hidden) continue;
        text.replaceChildren(...caption(network, row.image));
        canvas.setAttribute("aria-label", alt(network, row.image));
      }
      const gained = galleryData.change(data, view, row.image);
      row.change.textContent = gained === null ? "" : `${gained < 0 ? "−" : "+"}${Math.abs(gained).toFixed(gained % 1 ? 1 : 0)} on the object over the baseline`;
      row.change.title = "concepts on the object: students and controls that are shown, less the baseline";
    }

    function drawRow(row, across) {
      row.stale = false;
      if (row.untold) word(row);
      for (const { network, tile, canvas } of row.tiles) {
        if (!tile.hidden) galleryTiles.draw(canvas, data, view, network, row.image, across);
      }
    }

    function seen(row) {
      const { top, bottom } = row.figure.getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    }

    /* All rows on the screen, and a frame's worth of those near; the rest in the next frames, so that scrolling stays smooth. */
    function drawNear(all = false) {
      waiting = 0;
      const across = shownRows()[0]?.tiles[0].canvas.clientWidth;
      const until = all ? Infinity : performance.now() + BUDGET;
      const stale = rows.filter((row) => row.stale && !row.figure.hidden && (all || near.has(row.figure)));
      const first = new Set(stale.filter(seen));
      for (const row of first) drawRow(row, across);
      for (const row of stale) {
        if (first.has(row)) continue;
        if (performance.now() > until) return soon();
        drawRow(row, across);
      }
      return undefined;
    }

    function soon() {
      waiting ||= requestAnimationFrame(() => drawNear());
    }

    function arrange() {
      const measure = { gained: galleryData.change, lost: galleryData.change, differ: galleryData.differ };
      const of = (kind, row) => measure[kind](data, view, row.image);
      const kept = { all: () => true, gained: (row) => of("gained", row) > 0, lost: (row) => of("lost", row) < 0,
        differ: (row) => of("differ", row) > DIFFERENT };
      const text = (row, key) => data.pictures[row.image][key];
      const within = field("class") ? field("class").value : "", wanted = field("find").value.trim().toLowerCase();
      for (const row of rows) {
        const named = ["name", "label"].some((key) => text(row, key).toLowerCase().includes(wanted));
        row.figure.hidden = !(named && (!within || text(row, "label") === within) && kept[field("show").value](row));
      }
      const kind = field("sort").value, sign = kind === "lost" ? 1 : -1;
      const by = new Map(measure[kind] ? rows.map((row) => [row, sign * (of(kind, row) ?? 0)]) : []);
      const compare = { name: (a, b) => compareText(text(a, "name"), text(b, "name")), class: (a, b) => compareText(text(a, "label"), text(b, "label")) };
      rows.sort((a, b) => a.image - b.image);
      if (by.size) rows.sort((a, b) => by.get(a) - by.get(b));
      else if (compare[kind]) rows.sort(compare[kind]);
      if (rows.some((row, place) => grid.children[place] !== row.figure)) grid.append(...rows.map((row) => row.figure));
    }

    const compareText = (a, b) => a.localeCompare(b, "en", { numeric: true });
    const shownRows = () => rows.filter((row) => !row.figure.hidden);

    function tell() {
      for (const row of rows) if (row.untold) word(row);
      const shown = shownRows();
      const b = galleryData.threshold(data, view).toFixed(2);
      const elsewhere = view.networks.filter((network) => epochText(network)).map((network) => `${data.networks[network].name} at ${epochText(network)}`);
      told.textContent = shown.length
        ? `${shown.length} of ${rows.length} images at ${moment()}${elsewhere.length ? ` (${elsewhere.join(", ")})` : ""}; concepts are kept by more than ${b} nats.`
        : "No image is left: choose another class, or show all.";
    }

    function changed() {
      read();
      field("at").value = data.epochs[view.epoch];
      field("epoch").setAttribute("aria-valuetext", `epoch ${data.epochs[view.epoch]}`);
      field("b").value = galleryData.threshold(data, view).toFixed(2);
      field("threshold").setAttribute("aria-valuetext", `${field("b").value} nats`);
      const [low, high] = data.spans[view.layer];
      const signed = (nats) => `${nats < 0 ? "−" : "+"}${Math.abs(nats).toFixed(1)}`;
      root.querySelector(".scale").textContent = `kept ${signed(low)} to ${signed(high)} nats`;
      grid.style.setProperty("--tiles", Math.min(6, 1 + view.networks.length));
      grid.style.setProperty("--tile", `${field("size").value}px`);
      for (const row of rows) row.stale = row.untold = true;
      if (!playing && !full.showing()) arrange(); // the order stays while an image is looked at
      soon();
      full.refresh();
      clearTimeout(telling);
      if (!playing) telling = setTimeout(tell, 120);
    }

    function step(by) {
      const next = view.epoch + by;
      if (next < 0 || next >= data.epochs.length) return false;
      field("epoch").value = next;
      changed();
      return true;
    }

    function stop() {
      clearInterval(playing);
      playing = 0;
      field("play").textContent = still.matches ? "Next" : "Play";
      changed();
    }

    function play() {
      if (playing) return stop();
      if (view.epoch === data.epochs.length - 1) step(-view.epoch);
      else if (still.matches) step(1);
      if (still.matches) return undefined;
      playing = setInterval(() => { if (!step(1)) stop(); }, PACE);
      field("play").textContent = "Stop";
      return undefined;
    }

    function prepare() {
      const epoch = field("epoch"), b = field("threshold"), last = data.epochs.length - 1;
      Object.assign(epoch, { max: last, defaultValue: last, value: last });
      root.querySelector(".epochs").hidden = last < 1;
      const steps = (nats) => Math.round((nats - data.b) / data.step);
      Object.assign(b, { min: Math.min(0, steps(data.step)), max: Math.max(20, steps(3)), defaultValue: 0, value: 0 });
      form.addEventListener("input", changed);
      form.addEventListener("reset", () => setTimeout(stop, 0));
      form.addEventListener("submit", (event) => event.preventDefault());
      field("play").addEventListener("click", play);
      still.addEventListener("change", stop);
      grid.addEventListener("keydown", walk);
      addEventListener("beforeprint", () => drawNear(true));
    }

    function watch() {
      const close = new IntersectionObserver((entries) => {
        for (const { isIntersecting, target } of entries) near[isIntersecting ? "add" : "delete"](target);
        soon();
      }, { rootMargin: "100%" }); // a screen above and below
      for (const row of rows) close.observe(row.figure);
      let width = grid.clientWidth;
      new ResizeObserver(() => {
        if (grid.clientWidth === width) return;
        width = grid.clientWidth;
        for (const row of rows) row.stale = true;
        soon();
      }).observe(grid);
    }

    /* Arrows lead from one picture's button to the next, as in the dialog. */
    function walk(event) {
      const shown = shownRows(), at = shown.findIndex((row) => row.button === event.target);
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && at >= 0) shown[(at + by + shown.length) % shown.length].button.focus();
    }

    const closed = (image) => {
      changed();
      const row = rows.find((one) => one.image === image);
      (row.figure.hidden ? field("show") : row.button).focus();
    };
    const order = () => shownRows().map((row) => row.image);
    const full = galleryFull.attach(root, data, view, { order, step, caption, alt, moment, closed });
    prepare();
    root.querySelector(".contact").hidden = true;
    form.hidden = grid.hidden = false;
    stop();
    tell();
    watch();
    root.dataset.ready = "true";
  }

  for (const root of document.querySelectorAll(".viewer")) {
    galleryData.load(root).then((data) => gallery(root, data)).catch((error) => {
      root.querySelector(".told").textContent = "This browser cannot unpack the gallery; some of it stands below.";
      console.error(error);
    });
  }
})();
