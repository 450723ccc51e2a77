// Sorts the table by the column whose head is pressed; empty cells stay at the end.
const heads = [...document.querySelectorAll("thead th")];
const body = document.querySelector("tbody");
heads.forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return column < 2 ? cell.textContent : cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    };
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return down ? order(y, x) : order(x, y);
    });
    body.append(...rows);
  });
});
