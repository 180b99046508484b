const body = document.querySelector(".rows tbody");
const rows = find("tr.row");
const heads = find("th[data-sort]");
let current = data.by;
let sorted = { key: "rank", descending: false };

heads.forEach((head) => { toButton(head, "sort").addEventListener("click", () => sortBy(head.dataset.sort)); });
find(".class-key").forEach((key) => {
  const button = toButton(key, "class-button");
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => highlightClass(key, button));
});
find(".tools, button, #choose-class").forEach((element) => { element.hidden = false; });
find("tr.more").forEach((row) => { row.hidden = true; });
if (window.matchMedia("(max-width: 720px)").matches) byId("read").open = false;

function setPositions(element, positions) {
  const known = Object.values(positions).every((value) => value !== null && value !== undefined);
  element.setAttribute("visibility", known ? "visible" : "hidden");
  if (known) for (const [name, value] of Object.entries(positions)) element.setAttribute(name, value + "%");
}

function showScore(name) {
  current = name;
  const table = data.tables[name];
  const place = table.reference ? table.reference.position : null;
  byId("head").textContent = table.label;
  byId("low").textContent = table.ends[0];
  byId("high").textContent = table.ends[1];
  byId("better").textContent = table.better;
  byId("reference").textContent = table.reference ? table.reference.text : "";
  byId("reference-key").hidden = !table.reference;
  byId("interval-note").textContent = table.note;
  byId("interval-key").hidden = !table.has_intervals;
  for (const row of rows) {
    const cell = table.rows[row.dataset.row];
    const part = (query) => row.querySelector(query);
    part(".rank").textContent = cell.rank;
    part(".letter").textContent = cell.letters;
    part(".letter").hidden = !cell.letters;
    part(".value").textContent = cell.value;
    part("td.control").textContent = cell.control;
    if (!part("svg")) continue;
    setPositions(part(".ref"), { x1: place, x2: place });
    setPositions(part(".ci"), { x1: cell.low, x2: cell.high });
    setPositions(part("circle.at") ?? part("rect.at"), { [part("circle.at") ? "cx" : "x"]: cell.x });
    setPositions(part("rect.control"), { x: cell.c });
    part("svg").toggleAttribute("hidden", Boolean(cell.reason) && cell.c === null);
    part(".why").textContent = cell.reason;
  }
  sortRows();
  announce("Ranked by " + table.label);
}

function sortKey(row) {
  const number = row.dataset.row;
  const cell = data.tables[current]?.rows[number];
  if (sorted.key === "name") return data.names[number].toLowerCase();
  if (sorted.key === "parameters") return data.parameters[number];
  if (!cell) return null;
  return sorted.key === "rank" ? Number(cell.rank) || null : cell.numbers[sorted.key === "value" ? 0 : 3];
}

function compareRows(one, other) {
  const [a, b] = [sortKey(one), sortKey(other)];
  const missing = (a === null || a === undefined) - (b === null || b === undefined);
  // Rows without a value come last in both directions.
  if (missing || a === b) return missing || one.dataset.row - other.dataset.row;
  if (a === null || a === undefined) return one.dataset.row - other.dataset.row;
  return (a < b ? -1 : 1) * (sorted.descending ? -1 : 1);
}

function sortRows() {
  for (const row of [...rows].sort(compareRows)) {
    const more = byId("more-" + row.dataset.row);
    body.append(row);
    if (more) body.append(more);
  }
  for (const head of heads) {
    if (head.dataset.sort !== sorted.key) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
  }
  byId("sort").value = sorted.key;
}

function sortBy(key) {
  sorted = { key, descending: sorted.key === key && !sorted.descending };
  sortRows();
  const head = heads.find((one) => one.dataset.sort === key);
  announce("Sorted by " + head.textContent + (sorted.descending ? ", descending" : ", ascending"));
}

function highlightClass(key, button) {
  const chosen = button.getAttribute("aria-pressed") === "true" ? null : key.dataset.class;
  find(".class-button").forEach((one) => { one.setAttribute("aria-pressed", "false"); });
  if (chosen !== null) button.setAttribute("aria-pressed", "true");
  find("path[data-class]").forEach((path) => {
    path.classList.toggle("faint", chosen !== null && path.dataset.class !== chosen);
    if (path.dataset.class === chosen) path.parentNode.append(path);
  });
  find(".map li").forEach((item) => { item.classList.toggle("chosen", item.dataset.class === chosen); });
  announce(chosen === null ? "All classes are shown alike" : "Highlighted: " + key.textContent.trim());
}

function setDetails(button, open) {
  byId(button.dataset.more).hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  button.firstChild.textContent = open ? "Close" : "Details";
}

function filterRows(text) {
  let count = 0;
  for (const row of rows) {
    row.hidden = !data.names[row.dataset.row].toLowerCase().includes(text.toLowerCase());
    count += row.hidden ? 0 : 1;
    const button = row.querySelector("[data-more]");
    if (button && row.hidden) setDetails(button, false);
  }
  announce(count + " rows shown");
}

function shownRows() {
  return find("tr.row").filter((row) => !row.hidden).map((row) => {
    const cell = data.tables[current].rows[row.dataset.row];
    return [cell.rank === "–" ? "" : cell.rank, data.names[row.dataset.row], ...cell.numbers.map((n) => n ?? "")];
  });
}

function latexTable() {
  const label = latexCell(data.tables[current].label);
  const lines = shownRows().map(([rank, name, value, low, high, control]) => {
    const interval = low === "" ? "" : latexCell(low) + " to " + latexCell(high);
    return [rank, latexCell(name), latexCell(value), interval, latexCell(control)].join(" & ") + " \\\\";
  });
  const head = "Rank & Source & " + label + " & 95\\,\\% CI & Random weights \\\\";
  return ["\\begin{tabular}{rlrrr}", "\\toprule", head, "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}"].join("\n");
}

byId("score").addEventListener("change", (event) => showScore(event.target.value));
byId("sort").addEventListener("change", (event) => {
  sorted = { key: "", descending: false };
  sortBy(event.target.value);
});
byId("filter").addEventListener("input", (event) => filterRows(event.target.value));
byId("csv").addEventListener("click", (event) => {
  const head = ["rank", "source", current, current + " low", current + " high", "random weights"];
  copyText([head, ...shownRows()].map((cells) => cells.map(csvCell).join(",")).join("\n"), event.currentTarget);
});
byId("latex").addEventListener("click", (event) => copyText(latexTable(), event.currentTarget));
find("[data-more]").forEach((button) => {
  button.addEventListener("click", () => setDetails(button, button.getAttribute("aria-expanded") !== "true"));
});
