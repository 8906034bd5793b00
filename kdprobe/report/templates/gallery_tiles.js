"use strict";
/* How does a tile look?  The picture, the map over it, the outline of the object, frames of concepts. */
const galleryTiles = (() => {
  const SHARP = 64; // pixels; smaller pictures are enlarged pixel by pixel
  const HALO = "rgba(8, 10, 22, 0.7)", CONCEPT = "#ffffff", OBJECT = "#40e0ff";
  const NONE = 64; // object: less is off it

  /* A cell of the map for every unit of a grid, or for every pixel of parts. */
  function plane(data, image) {
    if (!data.members) {
      const side = Math.round(Math.sqrt(data.units));
      return { wide: side, high: side, unit: (cell) => cell };
    }
    const [high, wide] = data.shape;
    const start = image * high * wide;
    const unit = (cell) => 256 * data.members[2 * (start + cell)] + data.members[2 * (start + cell) + 1] - 1;
    return { wide, high, unit };
  }

  function colours(data, layer) {
    data.tables ||= [];
    if (data.tables[layer]) return data.tables[layer];
    const [low, high] = data.spans[layer];
    const table = new Uint8ClampedArray(256 * 3);
    const last = data.heat.length - 1;
    for (let level = 0; level < 256; level += 1) {
      const share = Math.min(1, Math.max(0, (galleryData.nats(data, level) - low) / (high - low)));
      const stop = Math.min(last - 1, Math.floor(share * last));
      for (let tone = 0; tone < 3; tone += 1) {
        const [from, to] = [data.heat[stop][tone], data.heat[stop + 1][tone]];
        table[3 * level + tone] = from + (to - from) * (share * last - stop);
      }
    }
    data.tables[layer] = table;
    return table;
  }

  const small = document.createElement("canvas");

  function heat(data, view, network, image) {
    const { wide, high, unit } = plane(data, image);
    const { kept } = galleryData.unitsOf(data, view, network, image);
    const table = colours(data, view.layer);
    const pixels = new ImageData(wide, high);
    for (let cell = 0; cell < wide * high; cell += 1) {
      const own = unit(cell);
      const level = own < 0 ? 0 : kept[own];
      for (let tone = 0; tone < 3; tone += 1) pixels.data[4 * cell + tone] = table[3 * level + tone];
      pixels.data[4 * cell + 3] = 255;
    }
    small.width = wide;
    small.height = high;
    small.getContext("2d").putImageData(pixels, 0, 0);
    return small;
  }

  /* The border of all cells that are `inside`, in cells; straight parts are one line each. */
  function border(wide, high, inside) {
    const path = new Path2D();
    const is = (x, y) => x >= 0 && y >= 0 && x < wide && y < high && inside(y * wide + x);
    const follow = (lines, length, differs, point) => {
      for (let line = 0; line <= lines; line += 1) {
        let start = -1;
        for (let place = 0; place <= length; place += 1) {
          const on = place < length && differs(line, place);
          if (on && start < 0) start = place;
          if (!on && start >= 0) {
            path.moveTo(...point(line, start));
            path.lineTo(...point(line, place));
            start = -1;
          }
        }
      }
    };
    follow(high, wide, (y, x) => is(x, y) !== is(x, y - 1), (y, x) => [x, y]);
    follow(wide, high, (x, y) => is(x, y) !== is(x - 1, y), (x, y) => [x, y]);
    return path;
  }

  function stroke(context, path, wide, high, ink, thick, dashes = []) {
    const { width, height } = context.canvas;
    const placed = new Path2D();
    const edge = thick / 2;
    placed.addPath(path, new DOMMatrix([(width - thick) / wide, 0, 0, (height - thick) / high, edge, edge]));
    context.setLineDash(dashes);
    for (const [colour, line] of [[HALO, thick * 2], [ink, thick]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.stroke(placed);
    }
    context.setLineDash([]);
  }

  function frames(context, data, view, network, image, thick) {
    const { wide, high, unit } = plane(data, image);
    const found = galleryData.marks(data, view, network, image);
    const marked = (kind) => (cell) => unit(cell) >= 0 && found[unit(cell)] === kind;
    stroke(context, border(wide, high, marked(2)), wide, high, CONCEPT, thick * 0.6, [3 * thick, 2 * thick]);
    stroke(context, border(wide, high, marked(1)), wide, high, CONCEPT, thick);
  }

  function objectPath(data, image) {
    const [high, wide] = data.shape;
    data.paths ||= [];
    data.paths[image] ||= border(wide, high, (cell) => data.object[image * high * wide + cell] > NONE);
    return data.paths[image];
  }

  /* `network` null: the picture alone. `across` is the canvas's width on the page, in pixels. */
  function draw(canvas, data, view, network, image, across = canvas.clientWidth) {
    const [high, wide] = data.shape;
    const scale = Math.max(1.5, window.devicePixelRatio || 1);
    canvas.width = Math.round((across || 128) * scale);
    canvas.height = Math.round(canvas.width * high / wide);
    const context = canvas.getContext("2d");
    const size = [0, 0, canvas.width, canvas.height];
    const thick = Math.max(1, canvas.width / 130);
    context.imageSmoothingEnabled = high > SHARP;
    context.drawImage(data.picture, (image % data.across) * wide, Math.floor(image / data.across) * high, wide, high, ...size);
    if (network !== null) {
      context.globalAlpha = Math.min(1, view.blend / 30);
      context.globalCompositeOperation = "saturation";
      context.fillStyle = "#808080";
      context.fillRect(...size);
      context.globalCompositeOperation = "source-over";
      context.globalAlpha = view.blend / 100;
      context.imageSmoothingEnabled = false;
      context.drawImage(heat(data, view, network, image), ...size);
      context.globalAlpha = 1;
    }
    if (view.object) stroke(context, objectPath(data, image), wide, high, OBJECT, thick);
    if (network !== null && view.concepts) frames(context, data, view, network, image, thick);
  }

  return { draw, plane };
})();
