"use strict";
/* How does a figure leave the page?  As a picture drawn anew, or as its own numbers. */
const figureFiles = (() => {
  const SCALE = 2; // pixels of a PNG to one of the page
  const WIDE = 720; // pixels of a picture
  const FORMULA = /^[=+\-@\t\r]/; // a spreadsheet would run what begins so
  const KINDS = { png: "image/png", svg: "image/svg+xml", csv: "text/csv" };

  /* Text that a spreadsheet would take for a formula gets a quote before it, as in the CSV files. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = FORMULA.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }
  const csv = (rows) => rows.map((row) => `${row.map(cell).join(",")}\n`).join("");

  function lineRows({ lines, x, y, names }) {
    const rows = [["line", x || "x", y || "y", "low", "high"]];
    let at = [];
    for (const line of lines) {
      at = line.x || at;
      at.forEach((place, i) => rows.push([line.name, names?.[place - 1] ?? place, line.y[i], line.low?.[i], line.high?.[i]]));
    }
    return rows;
  }

  function surfaceRows({ x, y, value, across, up, z, tracks }) {
    const rows = [["of", x || "x", y || "y", value || "value", "label"]];
    up.forEach((b, j) => across.forEach((a, i) => rows.push(["surface", a, b, z[j][i], null])));
    for (const way of tracks) way.x.forEach((a, i) => rows.push([way.name, a, way.y[i], null, way.labels[i]]));
    return rows;
  }

  const rowsOf = {
    lines: lineRows,
    surface: surfaceRows,
    heatmap: ({ rows, columns, z, x, y }) => [[y || "row", x || "column", "value"],
      ...rows.flatMap((row, j) => columns.map((column, i) => [row, column, z[j][i]]))],
    forest: ({ rows, x }) => [["of", "verdict", x || "effect", "low", "high"], ...rows],
  };

  function bytes(uri) {
    const [head, body] = [uri.slice(0, uri.indexOf(",")), uri.slice(uri.indexOf(",") + 1)];
    if (!head.endsWith(";base64")) return decodeURIComponent(body);
    return Uint8Array.from(atob(body), (sign) => sign.charCodeAt(0));
  }

  async function picture(box, format) {
    await plots.loaded();
    const figure = plots.figureOf(box), { data, layout } = plots.shown(figure);
    const paper = plots.themed({ paper_bgcolor: "var(--card)" });
    const size = { width: WIDE, height: figure.height, scale: format === "png" ? SCALE : 1 };
    return bytes(await window.Plotly.toImage({ data, layout: { ...layout, ...paper } }, { format, ...size }));
  }

  function save(content, name, kind) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: KINDS[kind] }));
    link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "figure"}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async function make(box, kind) {
    const figure = plots.figureOf(box);
    return kind === "csv" ? csv(rowsOf[figure.kind](figure)) : picture(box, kind);
  }

  function button(words, label, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }

  function offer(box) {
    if (!plots.figureOf(box)) return;
    const row = document.createElement("p"), title = plots.titleOf(box), said = document.createElement("span");
    said.setAttribute("role", "status");
    row.className = "files";
    for (const kind of Object.keys(KINDS)) {
      row.append(button(kind.toUpperCase(), `Save as ${kind.toUpperCase()}: ${title}`, async () => {
        try {
          save(await make(box, kind), title, kind);
        } catch (error) {
          said.textContent = `${kind.toUpperCase()} cannot be made here: ${error.message}`;
        }
      }));
    }
    row.append(said);
    box.after(row);
  }

  plots.boxes.forEach(offer);
  return { csv, save, button };
})();
