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

  function tally(gaps) {
    for (const card of all("[data-tally]")) {
      const side = Number(card.dataset.tally);
      const counts = Object.keys(held.signs).map((change) => [change,
        gaps.filter((gap) => gap[1] === side && gap[3] === change).length]);
      const shown = counts.filter(([, count]) => count).map(([change, count]) => word(change, count));
      card.replaceChildren(...(side === base ? [made("span", "change base", "baseline")] : shown));
    }
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
    const group = bodies.get(row).closest(".group");
    const link = made("a", "", group.id.slice(2));
    link.href = `#${group.id}`;
    const who = made("span", "who", "");
    const swatch = rows.get(row).get(side).querySelector(".swatch").cloneNode();
    const name = made("span", "name", names[side]);
    name.dataset.name = side;
    who.append(swatch, name);
    item.dataset.side = side;
    item.append(link, " ", made("span", "quiet", bodies.get(row).dataset.label), " ", who, " ",
      made("span", "number", text), " ", word(change));
    return item;
  }

  function entitle() {
    const title = document.getElementById("summary-title");
    const others = names.filter((_, side) => side !== base);
    const told = others.length < 4 ? others.join(", ") : `${others.length} ${title.dataset.kind}`;
    title.textContent = `${told.replace(/, (?=[^,]*$)/, others.length < 4 ? " and " : ", ")} against ${names[base]}`;
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
      const text = `${body.closest(".group").dataset.find} ${body.dataset.label}`.toLowerCase();
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
    document.getElementById("shown").textContent = `${shown} of ${bodies.size} places are shown.`;
  }

  function choose(side) {
    base = side;
    select.value = String(side);
    const gaps = held.gaps[side];
    compareLines(gaps);
    tally(gaps);
    tell(gaps);
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
  if (matchMedia("(max-width: 1340px)").matches) box.querySelector("details").open = false;
  box.hidden = false;
  sift();
})();
