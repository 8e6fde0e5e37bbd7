// Tables that sort by a column, images that zoom, and folded parts that are printed: the page is whole without.
"use strict";

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const headings = [...table.tHead.rows[0].cells];
  const given = [...body.rows];
  headings.forEach((heading, column) => {
    heading.setAttribute("aria-sort", "none");
    heading.tabIndex = 0;
    heading.title = "Sort; a third time: as it was";
    const sort = () => {
      const next = { none: "descending", descending: "ascending", ascending: "none" }[heading.getAttribute("aria-sort")];
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", next);
      body.append(...(next === "none" ? given : sorted(given, column, next === "ascending")));
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        sort();
      }
    });
  });
}

// By number where a cell begins with one, else by text; cells without a value come last.
function sorted(rows, column, ascending) {
  const value = (row) => row.cells[column].firstChild?.textContent.trim() ?? "";
  const compare = (one, other) => {
    const [a, b] = [parseFloat(one), parseFloat(other)];
    return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other) : a - b;
  };
  const empty = (text) => text === "" || text === "–";
  return [...rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    return ascending ? compare(a, b) : compare(b, a);
  });
}

for (const image of document.querySelectorAll("figure img")) {
  image.classList.add("zooms");
  image.addEventListener("click", () => {
    const dialog = document.createElement("dialog");
    const large = image.cloneNode();
    large.classList.remove("zooms");
    // Twice its size on the page, or the window's width where that is more.
    large.removeAttribute("width");
    large.style.width = `${Math.max(2 * image.clientWidth, 0.95 * window.innerWidth)}px`;
    dialog.append(large);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  });
}

window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
