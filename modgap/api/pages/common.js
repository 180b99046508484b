"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (query, inside = document) => [...inside.querySelectorAll(query)];
const byId = (id) => document.getElementById(id);

function announce(text) { byId("live").textContent = text; }

function toButton(element, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = name;
  button.append(...element.childNodes);
  element.append(button);
  return button;
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => { button.textContent = label; }, 1200);
}

function csvCell(value) {
  if (typeof value === "number") return String(value);
  const isNumber = /^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)$/i.test(value);
  const text = /^'*[=+\-@\t\r]/.test(value) && !isNumber ? "'" + value : value;
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function latexCell(value) {
  if (typeof value === "number") return "$" + value.toFixed(3) + "$";
  const marks = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  return value.replace(/[\\{}$&#^_%~]/g, (mark) => marks[mark] ?? "\\" + mark);
}

find("[data-copy]").forEach((button) => {
  button.addEventListener("click", () => copyText(byId(button.dataset.copy).textContent, button));
});
