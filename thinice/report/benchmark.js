"use strict";
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  function dress(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    theme.textContent = dark ? "Light" : "Dark";
  }
  dress(system.matches);
  system.addEventListener("change", (event) => dress(event.matches));
  theme.addEventListener("click", () => dress(document.documentElement.dataset.theme !== "dark"));

  // A cell sorts by its data-value, a number, or by its text; what has neither comes last, either way.
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  function compare(a, b) {
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
        const known = rows.filter(([value]) => value !== null && value !== "");
        const unknown = rows.filter(([value]) => value === null || value === "");
        known.sort(([a], [b]) => (up ? compare(a, b) : compare(b, a)));
        table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
      });
    });
  }
})();
