"use strict";
/* The figures of leading effects, drawn again for another baseline from what the page holds. */
(() => {
  const held = JSON.parse(document.getElementById("data").textContent);
  const figures = [...document.querySelectorAll("figure.effects")];
  const key = (row, side) => `${row}/${side}`;
  const lines = new Map(figures.flatMap((figure) => [...figure.querySelectorAll("li")])
    .map((line) => [key(line.dataset.row, line.dataset.side), line]));

  function place(mark, left, width = null) {
    mark.style.left = left === null ? "" : `${left}%`;
    mark.style.width = width === null ? "" : `${width}%`;
  }

  function axis(figure, found) {
    figure.classList.toggle("none", !found);
    if (!found) return;
    const [zero, least, low, greatest, high] = found;
    const ends = [...figure.querySelectorAll(".ends i")];
    [[zero, "0"], [least, low], [greatest, high]].forEach(([at, text], i) => {
      ends[i].textContent = text;
      place(ends[i], at);
    });
    for (const mark of figure.querySelectorAll(".zero")) place(mark, zero);
  }

  function sign(change) {
    const badge = document.createElement("span"), shown = document.createElement("span"), told = document.createElement("span");
    badge.className = `change ${change}`;
    shown.setAttribute("aria-hidden", "true");
    shown.textContent = held.signs[change];
    told.className = "hidden";
    told.textContent = change;
    badge.append(shown, told);
    return badge;
  }

  function draw(line, [low, effect, high], text, change) {
    const bar = line.querySelector(".reach");
    bar.className = `reach ${change}`;
    const mark = bar.querySelector(".span");
    if (low === null) place(mark, null);
    else place(mark, low, high - low);
    place(bar.querySelector(".mid"), effect);
    line.querySelector(":scope > .hidden").textContent = text;
    line.querySelector(".sign").replaceChildren(sign(change));
    line.classList.remove("none");
  }

  document.addEventListener("baseline", ({ detail: base }) => {
    const { axes, marks } = held.effects[base];
    const gaps = new Map(held.gaps[base].map((gap) => [key(gap[0], gap[1]), gap]));
    for (const figure of figures) axis(figure, axes[figure.dataset.quantity]);
    for (const line of lines.values()) line.classList.add("none");
    for (const [row, side, ...ends] of marks) {
      const [, , text, change] = gaps.get(key(row, side));
      draw(lines.get(key(row, side)), ends, text, change);
    }
  });
})();
