"use strict";
/* What do the maps of a gallery say?  Unpacked once; every number on the tiles is reckoned here. */
const galleryData = (() => {
  const ABOVE = 128; // the lowest level above b
  const PRESENT = 64, ON = 192; // sides: less is no unit, more is on the object

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function load(root) {
    const data = JSON.parse(root.querySelector(".viewed").textContent);
    const parts = Object.entries(data.packed);
    const arrays = await Promise.all(parts.map(([, text]) => unpack(text)));
    parts.forEach(([name], place) => { data[name] = arrays[place]; });
    data.picture = new Image();
    data.picture.src = data.sprite;
    await data.picture.decode();
    let count = 0;
    for (const network of data.networks) {
      network.first = count;
      count += network.epochs.length;
    }
    data.checkpoints = count;
    const learners = data.networks.filter((network) => network.role !== "teacher");
    const those = learners.length ? learners : data.networks;
    data.epochs = [...new Set(those.flatMap((network) => network.epochs))].sort((a, b) => a - b);
    return data;
  }

  /* The place of the nearest checkpoint that is not later; the first where all are. */
  const placeAt = (network, epoch) => Math.max(0, network.epochs.findLastIndex((own) => own <= epoch));

  const epochOf = (data, view, network) => data.networks[network].epochs[placeAt(data.networks[network], data.epochs[view.epoch])];

  function unitsOf(data, view, network, image) {
    const at = data.networks[network].first + placeAt(data.networks[network], data.epochs[view.epoch]);
    const start = ((view.layer * data.checkpoints + at) * data.pictures.length + image) * data.units;
    return { kept: data.kept.subarray(start, start + data.units), shaky: data.unstable.subarray(start, start + data.units) };
  }

  const sidesOf = (data, image) => data.sides.subarray(image * data.units, (image + 1) * data.units);

  /* 0 no concept, 1 a concept, 2 an unstable one, which is known at the b of the analysis alone. */
  function marks(data, view, network, image) {
    const { kept, shaky } = unitsOf(data, view, network, image);
    const sides = sidesOf(data, image);
    const found = new Uint8Array(data.units);
    for (let unit = 0; unit < data.units; unit += 1) {
      if (sides[unit] < PRESENT || kept[unit] < ABOVE + view.steps) continue;
      found[unit] = view.steps === 0 && shaky[unit] > ABOVE ? 2 : 1;
    }
    return found;
  }

  function tally(data, view, network, image) {
    const found = marks(data, view, network, image);
    const sides = sidesOf(data, image);
    const count = { on: 0, off: 0, units: 0 };
    for (let unit = 0; unit < data.units; unit += 1) {
      if (sides[unit] < PRESENT) continue;
      count.units += 1;
      if (found[unit]) count[sides[unit] > ON ? "on" : "off"] += 1;
    }
    return count;
  }

  const mean = (numbers) => (numbers.length ? numbers.reduce((a, b) => a + b) / numbers.length : null);

  /* Concepts on the object: students and controls that are shown, less baselines; null without both. */
  function change(data, view, image) {
    const of = (roles) => mean(view.networks.filter((at) => roles.includes(data.networks[at].role))
      .map((at) => tally(data, view, at, image).on));
    const [theirs, base] = [of(["student", "control"]), of(["baseline"])];
    return theirs === null || base === null ? null : theirs - base;
  }

  /* Share of the units that one of two networks calls a concept and the other does not, mean of all pairs. */
  function differ(data, view, image) {
    const all = view.networks.map((at) => marks(data, view, at, image));
    const present = sidesOf(data, image).filter((side) => side >= PRESENT).length;
    const pairs = all.length * (all.length - 1) / 2;
    let apart = 0;
    for (let unit = 0; unit < data.units; unit += 1) {
      const found = all.filter((one) => one[unit]).length;
      apart += found * (all.length - found);
    }
    return pairs && present ? apart / pairs / present : 0;
  }

  const threshold = (data, view) => data.b + view.steps * data.step;

  const nats = (data, level) => data.low + level * data.step;

  return { load, marks, tally, change, differ, threshold, nats, unitsOf, sidesOf, epochOf, PRESENT, ON };
})();
