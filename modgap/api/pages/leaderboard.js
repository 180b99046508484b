const body = document.querySelector(".heat-table tbody");
const table = document.querySelector(".heat-table");
const rows = find("tr.row").sort((a, b) => a.dataset.row - b.dataset.row);
const heads = find("th[data-sort]");
const cells = rows.map((row) => find("td:not(.mean)", row));
cells.forEach((row) => row.forEach((cell, target) => {
  cell.setAttribute("role", "cell");
  cell.dataset.target = target;
}));
const state = { measure: 0, sort: "rank", descending: false, rows: [], targets: [], filtered: false };

heads.forEach((head) => { toButton(head, "sort").addEventListener("click", () => sortBy(head.dataset.sort)); });
find(".tools, button").forEach((element) => { element.hidden = false; });
if (window.matchMedia("(max-width: 720px)").matches) byId("read").open = false;

const shownRows = () => data.rows.map((_, row) => row).filter(isShown);
const value = (row, target) => data.measures[state.measure].values[row][target];
const higher = (target) => data.measures[state.measure].higher[target];

function checkedKinds(name) {
  const boxes = find(`fieldset[data-filter=${name}] input`);
  return boxes.length ? boxes.filter((box) => box.checked).map((box) => box.value) : null;
}

function isShown(row) {
  const entry = data.rows[row];
  const [inputs, weights] = [checkedKinds("input"), checkedKinds("weights")];
  const [low, high] = (byId("size")?.value || "0 Infinity").split(" ").map(Number);
  const text = byId("filter").value.trim().toLowerCase();
  if (byId("size")?.value && (entry.parameters === null || !(entry.parameters >= low && entry.parameters < high))) return false;
  if (inputs && !inputs.includes(entry.input)) return false;
  return (!weights || weights.includes(entry.kind)) && entry.name.toLowerCase().includes(text);
}

// A filter that leaves out a source or a target makes another question, which Python answers.
function isFiltered() {
  const left = data.rows.filter((entry, row) => entry.kind === "source" && !state.rows.includes(row));
  return left.length > 0 || state.targets.length < data.targets.length;
}

function subsetCommand() {
  const names = state.rows.filter((row) => data.rows[row].kind === "source").map((row) => data.rows[row].argument);
  const targets = state.targets.map((target) => data.targets[target].argument);
  if (data.options === null || !names.length || !targets.length || names.includes("") || targets.includes("")) return "";
  const options = [...targets.map((name) => "--target " + name), ...names.map((name) => "--sources " + name), data.options];
  return ["modgap rank", ...options].filter(Boolean).join(" ");
}

function update() {
  const kinds = checkedKinds("samples");
  state.rows = shownRows();
  state.targets = data.targets.map((_, target) => target).filter((t) => !kinds || kinds.includes(data.targets[t].kind));
  state.filtered = isFiltered();
  rows.forEach((row, number) => { row.hidden = !state.rows.includes(number); });
  find("[data-target]", table).forEach((part) => { part.hidden = !state.targets.includes(Number(part.dataset.target)); });
  table.style.setProperty("--n", Math.max(state.targets.length, 1));
  if (state.sort !== "name" && state.sort !== "rank" && !state.targets.includes(Number(state.sort))) state.sort = "rank";
  state.rows.forEach(fillRow);
  byId("matrix").textContent = data.measures[state.measure].title;
  const command = state.filtered ? subsetCommand() : "";
  byId("answer").hidden = state.filtered;
  byId("caption").hidden = state.filtered;
  byId("subset").hidden = !state.filtered;
  document.querySelector("#subset .paste").hidden = !command;
  byId("subset-command").textContent = command;
  sortRows();
  const current = find("td[tabindex='0']")[0];
  const first = cells[state.rows[0]]?.[state.targets[0]];
  if (first && current && (current.hidden || current.closest("tr").hidden)) makeCurrent(first);
  announce(`${state.rows.length} rows and ${state.targets.length} targets are shown`);
}

function fillRow(row) {
  const { means, letters } = data.measures[state.measure];
  const letter = rows[row].querySelector(".letter");
  const mean = state.filtered ? null : means[row] ?? null;
  rows[row].querySelector(".number").textContent = mean === null ? "–" : mean.toFixed(1);
  letter.textContent = state.filtered ? "" : letters[row] ?? "";
  letter.hidden = !letter.textContent;
  state.targets.forEach((target) => fillCell(row, target));
}

function fillCell(row, target) {
  const [measure, cell] = [data.measures[state.measure], cells[row][target]];
  cell.textContent = measure.texts[row][target];
  cell.className = value(row, target) === null ? "empty" : measure.best[row][target] ? "best" : "";
  cell.style.setProperty("--p", measure.shares[row][target] + "%");
}

function sortKey(row) {
  if (state.sort === "name") return data.rows[row].name.toLowerCase();
  if (state.sort === "rank") return data.measures[state.measure].means[row] ?? null;
  const one = value(row, Number(state.sort));
  return one === null ? null : (higher(Number(state.sort)) ? -one : one);
}

function sortRows() {
  const keys = new Map(state.rows.map((row) => [row, sortKey(row)]));
  const order = [...state.rows].sort((a, b) => {
    const [one, other] = [keys.get(a), keys.get(b)];
    if (one === other) return a - b;
    if (one === null || other === null) return (one === null) - (other === null);
    return (one < other ? -1 : 1) * (state.descending ? -1 : 1);
  });
  body.append(...order.map((row) => rows[row]));
  for (const head of heads) {
    if (head.dataset.sort !== state.sort) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
  }
}

function sortBy(key) {
  Object.assign(state, { sort: key, descending: state.sort === key && !state.descending });
  sortRows();
  announce("Sorted by " + heads.find((head) => head.dataset.sort === key).textContent);
}

const tip = document.createElement("div");
Object.assign(tip, { id: "tip", hidden: true });
tip.setAttribute("role", "tooltip");
document.body.append(tip);

function describe(row, target) {
  const measure = data.measures[state.measure];
  const start = `${data.rows[row].name} on ${data.targets[target].name}: `;
  if (value(row, target) === null) return start + (data.reasons[row + " " + target] ?? "no value");
  const interval = measure.intervals?.[row][target] ? ` (95 % CI ${measure.intervals[row][target]})` : "";
  const similar = measure.best[row][target] ? "; not significantly different from the best source" : "";
  return `${start}${measure.texts[row][target]}${interval}${similar}`;
}

function showTip(cell) {
  tip.textContent = describe(Number(cell.closest("tr").dataset.row), Number(cell.dataset.target));
  tip.hidden = false;
  const [box, width] = [cell.getBoundingClientRect(), tip.offsetWidth];
  const left = Math.min(box.left, document.documentElement.clientWidth - width - 8);
  tip.style.left = Math.max(left, 8) + window.scrollX + "px";
  tip.style.top = box.bottom + 4 + window.scrollY + "px";
}

function hideTip() { tip.hidden = true; }

// One cell can be reached with the Tab key; arrow keys move from it.
function makeCurrent(cell) {
  find("td[tabindex='0']").forEach((one) => { one.tabIndex = -1; });
  cell.tabIndex = 0;
}

function moveFocus(cell, key) {
  const row = cell.closest("tr");
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
  if (!steps) return false;
  const [shown, visible] = [find("tr.row").filter((one) => !one.hidden), find("td:not(.mean)", row).filter((one) => !one.hidden)];
  const next = shown[shown.indexOf(row) + steps[0]];
  const column = visible.indexOf(cell) + steps[1];
  const found = next && find("td:not(.mean)", next).filter((one) => !one.hidden)[column];
  if (found) {
    makeCurrent(found);
    found.focus();
  }
  return true;
}

function shownTable() {
  return find("tr.row").filter((row) => !row.hidden).map((row) => Number(row.dataset.row));
}

// Mean rank and letters of a row; empty while a filter is active, and for controls.
function standing(row) {
  const { means, letters } = data.measures[state.measure];
  return state.filtered ? ["", ""] : [means[row] ?? "", letters[row] ?? ""];
}

function csvTable() {
  const head = ["source", "mean rank", "letters", ...state.targets.map((target) => data.targets[target].name)];
  const lines = shownTable().map((row) => {
    return [data.rows[row].name, ...standing(row), ...state.targets.map((target) => value(row, target) ?? "")];
  });
  return [head, ...lines].map((line) => line.map(csvCell).join(",")).join("\n");
}

function latexTable() {
  const names = state.targets.map((target) => latexCell(data.targets[target].short));
  const lines = shownTable().map((row) => {
    const values = state.targets.map((target) => {
      const text = value(row, target) === null ? "" : latexCell(value(row, target));
      const isBest = data.measures[state.measure].best[row][target] && text;
      // \textbf does not reach into mathematics.
      return isBest ? `$\\mathbf{${text.slice(1, -1)}}$` : text;
    });
    const [mean, letters] = standing(row);
    return [latexCell(data.rows[row].name), mean === "" ? "" : mean.toFixed(1), letters, ...values].join(" & ") + " \\\\";
  });
  const head = ["Source", "Mean rank", "Group", ...names].join(" & ") + " \\\\";
  const columns = "lrl" + "r".repeat(names.length);
  return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}"].join("\n");
}

byId("measure").addEventListener("change", (event) => {
  state.measure = Number(event.target.value);
  update();
});
byId("filter").addEventListener("input", update);
byId("size")?.addEventListener("change", update);
find("fieldset input").forEach((box) => box.addEventListener("change", update));
byId("csv").addEventListener("click", (event) => copyText(csvTable(), event.currentTarget));
byId("latex").addEventListener("click", (event) => copyText(latexTable(), event.currentTarget));
cells.flat().forEach((cell, number) => {
  cell.tabIndex = number ? -1 : 0;
  cell.addEventListener("mouseenter", () => showTip(cell));
  cell.addEventListener("mouseleave", hideTip);
  cell.addEventListener("focus", () => { makeCurrent(cell); showTip(cell); });
  cell.addEventListener("blur", hideTip);
  cell.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
    else if (moveFocus(cell, event.key)) event.preventDefault();
  });
});
update();
