"use strict";
/* What can be done with a table?  Rows are found by their words, sorted by a column, and saved. */
(() => {
  const FEWEST = 4; // rows; fewer need no sorting
  const collator = new Intl.Collator("en", { numeric: true });

  /* A shown number as a number: true minus and groups of three are for readers. */
  const plain = (text) => text.replace(/−/g, "-").replace(/\u202f/g, "");
  /* What a cell is: null, a number, or a name, which "007" and "1.10" stay beside other names. */
  function read(text, pure) {
    if (text === "" || text === "–") return null;
    const number = Number(plain(text));
    return pure || String(number) === plain(text) ? number : NaN;
  }
  const isPure = (table, column) => table.classList.contains(`n${column + 1}`); // no text in it
  const wordsOf = (cell) => cell.textContent.trim();
  const exact = (cell) => cell.dataset.v || wordsOf(cell); // what is shown may be rounded
  const cells = (row, of = wordsOf) => [...row.cells].map(of);

  function compare(one, two, pure) {
    const [a, b] = [read(one, pure), read(two, pure)];
    if (a === null || b === null) return (a === null) - (b === null);
    return Number.isNaN(a) || Number.isNaN(b) ? collator.compare(one, two) : a - b;
  }

  function sort(table, head, column) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0], pure = isPure(table, column), empty = (text) => read(text, pure) === null;
    const rows = [...body.rows].map((row) => [row, exact(row.cells[column])]);
    rows.sort(([, a], [, b]) => (empty(a) || empty(b) ? compare(a, b, pure) : compare(a, b, pure) * (down ? -1 : 1)));
    body.append(...rows.map(([row]) => row));
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head, column));
      head.replaceChildren(button);
    });
  }

  function search(table, bar, told) {
    const label = document.createElement("label"), field = document.createElement("input");
    field.type = "search";
    label.append("Find rows", field);
    const rows = [...table.tBodies[0].rows].map((row) => [row, cells(row).join(" ").toLowerCase()]);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word) || plain(text).includes(word));
        count += !row.hidden;
      }
      told.textContent = words.length ? `${count} of ${rows.length} rows` : "";
    });
    bar.append(label, told);
  }

  /* The rows as they stand: those that were found, in the order of now. */
  function content(table) {
    const value = (text, column) => {
      const known = read(text, isPure(table, column));
      return Number.isNaN(known) ? text : known;
    };
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => cells(row, exact).map(value));
    return figureFiles.csv([cells(table.tHead.rows[0]), ...rows]);
  }

  function saveable(table, bar) {
    const title = table.caption.textContent, row = document.createElement("p");
    row.className = "files";
    row.append(figureFiles.button("CSV", `Save as CSV: ${title}`, () => figureFiles.save(content(table), title, "csv")));
    bar.append(row);
  }

  function equip(table) {
    const long = table.closest(".fold");
    const bar = document.createElement("div"), told = document.createElement("span");
    bar.className = "table-bar";
    told.setAttribute("role", "status");
    if (table.tBodies[0].rows.length >= FEWEST) sortable(table);
    if (long) search(table, bar, told);
    if (typeof figureFiles !== "undefined") saveable(table, bar); // a page may do without
    if (long) long.querySelector(".scroll").before(bar);
    else if (bar.hasChildNodes()) table.closest(".scroll").after(bar);
  }

  for (const table of document.querySelectorAll("table.data")) if (table.tBodies[0].rows.length) equip(table);
})();
