"use strict";
(() => {
  const held = JSON.parse(document.getElementById("data").textContent);
  const box = document.getElementById("toolbox");
  const select = document.getElementById("base");
  const find = document.getElementById("find");
  const only = document.getElementById("decided");
  const told = document.getElementById("told");
  const tools = [...document.querySelectorAll("[data-tool]")];
  const names = [...held.sides];
  const off = new Set();
  const bright = new Set();
  const MOST = 12;
  let base = held.baseline;

  const groupOf = (row) => bodies.get(row).closest(".group");
  const isDecided = (gap) => gap[4] !== null; // [row, side, text, change, place among the decided]
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const bodies = new Map(all("tbody[data-row]").map((body) => [Number(body.dataset.row), body]));
  const rows = new Map([...bodies].map(([row, body]) => [row,
    new Map(all("tr[data-side]", body).map((line) => [Number(line.dataset.side), line]))]));

  function made(tag, className, text) {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  }

  function word(change, count = "") {
    const badge = made("span", `change ${change}`, "");
    const sign = made("span", "", held.signs[change]);
    sign.setAttribute("aria-hidden", "true");
    badge.append(sign, ` ${count}${count === "" ? "" : " "}${change}`);
    return badge;
  }

  function compareLines(gaps) {
    for (const [row, lines] of rows) {
      for (const [side, line] of lines) {
        line.classList.toggle("base", side === base);
        line.querySelector(".effect").replaceChildren(side === base ? made("span", "quiet", "baseline") : "");
        line.querySelector(".word").replaceChildren();
        markBaseline(line.querySelector(".strip"), held.centres[row][base]);
      }
    }
    for (const [row, side, text, change] of gaps) {
      const line = rows.get(row).get(side);
      line.querySelector(".effect").textContent = text;
      line.querySelector(".word").replaceChildren(word(change));
    }
  }

  function markBaseline(strip, centre) {
    let mark = strip.querySelector(".base");
    if (centre === null) { mark?.remove(); return; }
    if (!mark) {
      mark = made("i", "base", "");
      strip.prepend(mark);
    }
    mark.style.left = `${centre}%`;
  }

  function counted(gaps) {
    return Object.keys(held.signs).map((change) => [change, gaps.filter((gap) => gap[3] === change).length])
      .filter(([, count]) => count).map(([change, count]) => word(change, count));
  }

  function tally(gaps) {
    for (const card of all("[data-tally]")) {
      const side = Number(card.dataset.tally);
      const shown = counted(gaps.filter((gap) => gap[1] === side));
      card.replaceChildren(...(side === base ? [made("span", "change base", "baseline")] : shown));
    }
    for (const group of all("[data-group]")) {
      group.replaceChildren(...counted(gaps.filter((gap) => groupOf(gap[0]).id === `q-${group.dataset.group}`)));
    }
  }

  function mark() {
    const changed = new Set(held.changed[base]);
    for (const row of all("[data-verdict]")) row.classList.toggle("changed", changed.has(Number(row.dataset.verdict)));
    const [none, what] = held.notes[base];
    document.getElementById("none").textContent = none;
    const told = document.getElementById("changed");
    if (told) told.textContent = what;
  }

  function tell(gaps) {
    const decided = gaps.filter(isDecided).sort((a, b) => a[4] - b[4]);
    told.replaceChildren(...decided.slice(0, MOST).map(sentence));
    document.getElementById("none").hidden = decided.length > 0;
    const more = document.getElementById("more");
    more.hidden = decided.length <= MOST;
    more.textContent = `${decided.length - MOST} more stand in the tables below.`;
    const counted = decided.length === 1 ? "1 difference is" : `${decided.length} differences are`;
    const lead = document.getElementById("lead");
    lead.textContent = lead.textContent.replace(/\d+ differences? (is|are)/, counted);
  }

  function sentence([row, side, text, change]) {
    const item = document.createElement("li");
    const group = groupOf(row);
    const link = made("a", "", group.id.slice(2));
    link.href = `#${group.id}`;
    const who = made("span", "who", "");
    const swatch = rows.get(row).get(side).querySelector(".swatch").cloneNode();
    const name = made("span", "name", names[side]);
    name.dataset.name = side;
    who.append(swatch, name);
    item.dataset.side = side;
    const { label } = bodies.get(row).dataset;
    const where = label ? [made("span", "quiet", label), " "] : [];
    item.append(link, " ", ...where, who, " ", made("span", "quiet means", group.dataset.means), " ",
      made("span", "number", text), " ", word(change));
    return item;
  }

  function entitle() {
    const title = document.getElementById("summary-title");
    const others = names.filter((_, side) => side !== base);
    const told = others.length < 4 ? others.join(", ") : `${others.length} ${title.dataset.kind}`;
    title.textContent = `${told.replace(/, (?=[^,]*$)/, others.length < 4 ? " and " : ", ")} against ${names[base]}`;
    document.title = `${title.textContent} · kdprobe comparison`;
    for (const span of all("[data-base-name]")) span.textContent = names[base];
  }

  function rename() {
    for (const span of all("[data-name]")) span.textContent = names[span.dataset.name];
    entitle();
    for (const option of select.options) option.textContent = names[option.value];
  }

  function dress() {
    for (const element of all("[data-side]")) {
      const side = Number(element.dataset.side);
      element.classList.toggle("away", off.has(side));
      element.classList.toggle("bright", bright.has(side));
    }
  }

  function sift() {
    const wanted = find.value.trim().toLowerCase();
    const decided = new Set(held.gaps[base].filter((gap) => isDecided(gap) && !off.has(gap[1]))
      .map((gap) => gap[0]));
    let shown = 0;
    for (const [row, body] of bodies) {
      const text = `${groupOf(row).dataset.find} ${body.dataset.label}`.toLowerCase();
      const fits = text.includes(wanted) && (!only.checked || decided.has(row));
      body.classList.toggle("away", !fits);
      shown += fits;
    }
    for (const group of all(".group")) group.classList.toggle("away", !group.querySelector("tbody:not(.away)"));
    for (const part of all(".metric")) {
      const empty = !part.querySelector(".group:not(.away)");
      part.classList.toggle("away", empty);
      document.querySelector(`.contents a[href="#${CSS.escape(part.id)}"]`).classList.toggle("away", empty);
    }
    unfold(wanted !== "" || only.checked);
    document.getElementById("shown").textContent = `${shown} of ${bodies.size} places are shown.`;
  }

  /* What is looked for is open while it is; what was opened by hand stays so. */
  function unfold(sought) {
    for (const fold of all(".group > .fold")) {
      const found = sought && fold.querySelector("tbody:not(.away)") !== null;
      if (found && !fold.open) fold.dataset.found = "true";
      if (found) fold.open = true;
      else if (!sought && fold.dataset.found) {
        fold.open = false;
        delete fold.dataset.found;
      }
    }
  }

  function openGroup(hash) {
    const group = all(".group").find(({ id }) => [`#${id}`, `#${encodeURIComponent(id)}`].includes(hash));
    const fold = group?.querySelector(".fold");
    if (fold) fold.open = true;
  }

  function choose(side) {
    base = side;
    select.value = String(side);
    const gaps = held.gaps[side];
    compareLines(gaps);
    tally(gaps);
    tell(gaps);
    mark();
    document.dispatchEvent(new CustomEvent("baseline", { detail: base }));
    refresh();
  }

  function refresh() {
    rename();
    dress();
    sift();
  }

  function toggle(set, side, inside) {
    if (inside) set.add(side);
    else set.delete(side);
    refresh();
  }

  for (const tool of tools) {
    const side = Number(tool.dataset.tool);
    const [show, name] = tool.querySelectorAll("input");
    const star = tool.querySelector("button");
    show.addEventListener("change", () => toggle(off, side, !show.checked));
    name.addEventListener("input", () => {
      names[side] = name.value.trim() || held.sides[side];
      rename();
    });
    star.addEventListener("click", () => {
      const pressed = star.getAttribute("aria-pressed") !== "true";
      star.setAttribute("aria-pressed", String(pressed));
      toggle(bright, side, pressed);
    });
  }

  function reset() {
    off.clear();
    bright.clear();
    held.sides.forEach((name, side) => { names[side] = name; });
    for (const tool of tools) {
      const [show, name] = tool.querySelectorAll("input");
      show.checked = true;
      name.value = held.sides[Number(tool.dataset.tool)];
      tool.querySelector("button").setAttribute("aria-pressed", "false");
    }
    find.value = "";
    only.checked = false;
    choose(held.baseline);
  }

  select.addEventListener("change", () => choose(Number(select.value)));
  find.addEventListener("input", sift);
  only.addEventListener("change", sift);
  document.getElementById("reset").addEventListener("click", reset);
  document.addEventListener("click", ({ target }) => openGroup(target.closest("a")?.getAttribute("href")));
  openGroup(location.hash);
  if (matchMedia("(max-width: 1340px)").matches) box.querySelector("details").open = false;
  box.hidden = false;
  sift();
})();
