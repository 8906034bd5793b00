"use strict";
/* How is one picture seen in full?  A dialog with the tiles of all networks, steered by arrow keys. */
const galleryFull = (() => {
  const put = (kind, name, parent) => {
    const made = document.createElement(kind);
    made.className = name;
    parent.append(made);
    return made;
  };

  /* `steer` has: order() of images that are shown, step(by) of epochs, caption() and alt() of a tile. */
  function attach(root, data, view, steer) {
    const dialog = root.querySelector(".full");
    const part = (name) => dialog.querySelector(name);
    const tiles = part(".full-tiles");
    const here = { image: 0, place: 0 };
    const shown = () => [null, ...view.networks];

    const built = [null, ...data.networks.keys()].map((network) => {
      const tile = put("button", "tile", tiles);
      tile.type = "button";
      const canvas = put("canvas", "", tile);
      canvas.setAttribute("aria-hidden", "true");
      const text = put("span", "caption", tile);
      tile.addEventListener("click", () => choose(shown().indexOf(network)));
      canvas.addEventListener("pointermove", (event) => tell(network, canvas, event));
      canvas.addEventListener("pointerleave", () => { part(".cell").textContent = ""; });
      return { network, tile, canvas, text };
    });

    function tell(network, canvas, event) {
      const { wide, high, unit } = galleryTiles.plane(data, here.image);
      const box = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const [column, row] = [Math.floor(x / box.width * wide), Math.floor(y / box.height * high)];
      const own = column < wide && row < high && column >= 0 && row >= 0 ? unit(row * wide + column) : -1;
      const side = own < 0 ? 0 : galleryData.sidesOf(data, here.image)[own];
      part(".cell").textContent = "";
      if (network === null || side < galleryData.PRESENT) return;
      const level = galleryData.unitsOf(data, view, network, here.image).kept[own];
      part(".cell").textContent = `Row ${row + 1}, column ${column + 1}, ${side > galleryData.ON ? "on" : "off"} the object: `
        + `${galleryData.nats(data, level).toFixed(2)} nats kept more than of the background.`;
    }

    function choose(place) {
      here.place = (place + shown().length) % shown().length;
      refresh();
      built.find(({ network }) => network === shown()[here.place]).tile.focus();
    }

    function move(by) {
      const order = steer.order();
      if (!order.length) return;
      const at = order.indexOf(here.image);
      here.image = order[(at + by + order.length) % order.length];
      refresh();
    }

    function refresh() {
      if (!dialog.open) return;
      const { name, label } = data.pictures[here.image];
      here.place = Math.min(here.place, shown().length - 1);
      part("h4").textContent = label ? `${name}, class ${label}` : name;
      for (const { network, tile, canvas, text } of built) {
        const chosen = network === shown()[here.place];
        tile.hidden = !shown().includes(network);
        tile.classList.toggle("chosen", chosen);
        tile.setAttribute("aria-pressed", String(chosen));
        if (tile.hidden) continue;
        tile.setAttribute("aria-label", steer.alt(network, here.image));
        text.replaceChildren(...steer.caption(network, here.image));
        galleryTiles.draw(canvas, data, view, network, here.image);
      }
      const order = steer.order();
      part(".full-told").textContent = `Image ${order.indexOf(here.image) + 1} of ${order.length}, ${steer.moment()}. `
        + steer.alt(shown()[here.place], here.image);
    }

    const keys = {
      ArrowLeft: () => move(-1), ArrowRight: () => move(1),
      ArrowUp: () => choose(here.place - 1), ArrowDown: () => choose(here.place + 1),
      ",": () => steer.step(-1), ".": () => steer.step(1),
    };
    dialog.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
    const buttons = { before: () => move(-1), after: () => move(1), earlier: () => steer.step(-1),
      later: () => steer.step(1), close: () => dialog.close() };
    for (const [name, act] of Object.entries(buttons)) part(`[name="${name}"]`).addEventListener("click", act);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => steer.closed(here.image));
    addEventListener("resize", refresh);

    /* Of the networks a student, where nobody says which. */
    const first = () => view.networks.find((at) => data.networks[at].role === "student") ?? view.networks.at(-1) ?? null;

    function open(image, network = first()) {
      here.image = image;
      here.place = Math.max(0, shown().indexOf(network));
      dialog.showModal();
      refresh();
      built.find((one) => one.network === shown()[here.place]).tile.focus();
    }

    return { open, refresh, showing: () => dialog.open };
  }

  return { attach, put };
})();
