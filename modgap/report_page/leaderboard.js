const body = document.querySelector(".heat-table tbody");
const table = document.querySelector(".heat-table");
const rows = find("tr.row").sort((a, b) => a.dataset.row - b.dataset.row);
const heads = find("th[data-sort]");
const cells = rows.map((row) => find("td:not(.mean)", row));
cells.forEach((row) => row.forEach((cell, target) => {
  cell.setAttribute("role", "cell");
  cell.dataset.target = target;
}));
const state = { measure: 0, sort: "rank", descending: false, rows: [], targets: [], standing: null };

heads.forEach((head) => { toButton(head, "sort").addEventListener("click", () => sortBy(head.dataset.sort)); });
find(".tools, button").forEach((element) => { element.hidden = false; });
const isPhone = window.matchMedia("(max-width: 720px)").matches;
if (isPhone) byId("read").open = false;
// More digits do not fit into the cells of a phone.
const cellDigits = isPhone && data.targets.length > 6 ? 2 : 3;

const shownRows = () => data.rows.map((_, row) => row).filter(isShown);
const value = (row, target) => data.measures[state.measure].values[row][target];
const higher = (target) => data.measures[state.measure].higher[target];

function formatNumber(one, digits = 3) {
  const size = Math.abs(one);
  let text = size > 0 && size < 0.001 ? String(Number(one.toPrecision(2))) : one.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : digits);
  if (size >= 1000) text = text.replace(/\B(?=(\d{3})+$)/g, ",");
  return text.replaceAll("-", "−");
}

function checkedKinds(name) {
  const boxes = find(`fieldset[data-filter=${name}] input`);
  return boxes.length ? boxes.filter((box) => box.checked).map((box) => box.value) : null;
}

function isShown(row) {
  const entry = data.rows[row];
  const [inputs, weights] = [checkedKinds("input"), checkedKinds("weights")];
  const [low, high] = (byId("size")?.value || "0 Infinity").split(" ").map(Number);
  const text = byId("filter").value.trim().toLowerCase();
  if (byId("size")?.value && !(entry.parameters >= low && entry.parameters < high)) return false;
  if (inputs && !inputs.includes(entry.input)) return false;
  return (!weights || weights.includes(entry.kind)) && entry.name.toLowerCase().includes(text);
}

function update() {
  const kinds = checkedKinds("samples");
  state.rows = shownRows();
  state.targets = data.targets.map((_, target) => target).filter((t) => !kinds || kinds.includes(data.targets[t].kind));
  const values = state.rows.map((row) => state.targets.map((target) => value(row, target)));
  state.standing = compareOverTargets(values, state.targets.map(higher), data.mostLettered);
  rows.forEach((row, number) => { row.hidden = !state.rows.includes(number); });
  find("[data-target]", table).forEach((part) => { part.hidden = !state.targets.includes(Number(part.dataset.target)); });
  table.style.setProperty("--n", Math.max(state.targets.length, 1));
  if (state.sort !== "name" && state.sort !== "rank" && !state.targets.includes(Number(state.sort))) state.sort = "rank";
  state.rows.forEach(fillRow);
  state.targets.forEach(colorColumn);
  byId("matrix").textContent = data.measures[state.measure].title;
  byId("caption").textContent = caption();
  sortRows();
  announce(caption());
}

function fillRow(row, place) {
  const mean = state.standing.means[place];
  const letter = rows[row].querySelector(".letter");
  rows[row].querySelector(".number").textContent = Number.isFinite(mean) ? mean.toFixed(1) : "–";
  letter.textContent = state.standing.letters[place];
  letter.hidden = !letter.textContent;
}

function colorColumn(target) {
  const known = state.rows.map((row) => value(row, target)).filter((one) => one !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  for (const row of state.rows) {
    const [one, cell] = [value(row, target), cells[row][target]];
    const share = high > low ? (one - low) / (high - low) : 1;
    cell.textContent = one === null ? "–" : formatNumber(one, cellDigits);
    cell.classList.toggle("empty", one === null);
    cell.classList.toggle("best", data.measures[state.measure].best[row][target] === 1);
    cell.style.setProperty("--p", one === null ? "0%" : Math.round(100 * (higher(target) ? share : 1 - share)) + "%");
  }
}

function caption() {
  const [n, t] = [state.rows.length, state.targets.length];
  const start = `Ranks and letters are for ${n} source${n === 1 ? "" : "s"} and ${t} target${t === 1 ? "" : "s"}`;
  if (state.standing.letters.some(Boolean)) return start + data.texts.tested;
  const needed = state.standing.needed;
  return start + (t < needed ? data.texts.few.replace("NEEDED", needed) : data.texts.untested);
}

function sortKey(row) {
  if (state.sort === "name") return data.rows[row].name.toLowerCase();
  if (state.sort === "rank") return state.standing.means[state.rows.indexOf(row)];
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
  const one = value(row, target);
  if (one === null) return start + (data.reasons[row + " " + target] ?? "no value");
  const interval = measure.intervals?.[row][target] ? ` (95 % CI ${measure.intervals[row][target]})` : "";
  const rank = state.standing.ranks[state.rows.indexOf(row)][state.targets.indexOf(target)];
  const similar = measure.best[row][target] ? "; not significantly different from the best source" : "";
  return `${start}${formatNumber(one)}${interval}, rank ${rank} of ${state.rows.length}${similar}`;
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
  const order = find("tr.row").filter((row) => !row.hidden).map((row) => Number(row.dataset.row));
  return order.map((row) => [row, state.rows.indexOf(row)]);
}

function csvTable() {
  const head = ["source", "mean rank", "letters", ...state.targets.map((target) => data.targets[target].name)];
  const lines = shownTable().map(([row, place]) => {
    const { means, letters } = state.standing;
    return [data.rows[row].name, means[place], letters[place], ...state.targets.map((target) => value(row, target) ?? "")];
  });
  return [head, ...lines].map((line) => line.map(csvCell).join(",")).join("\n");
}

function latexTable() {
  const measure = data.measures[state.measure];
  const names = state.targets.map((target) => latexCell(data.targets[target].short));
  const lines = shownTable().map(([row, place]) => {
    const values = state.targets.map((target) => {
      const text = value(row, target) === null ? "" : latexCell(value(row, target));
      return measure.best[row][target] && text ? `\\textbf{${text}}` : text;
    });
    const mean = state.standing.means[place].toFixed(1);
    return [latexCell(data.rows[row].name), mean, state.standing.letters[place], ...values].join(" & ") + " \\\\";
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
