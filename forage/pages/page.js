// Draws the figures when they come near the screen, in the colours of the reader's theme; shows photographs and recipes.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const read = (id) => { const e = document.getElementById(`data-${id}`); return e ? JSON.parse(e.textContent) : null; };
let printing = false;

function themed(layout) {
  const night = dark.matches && !printing;
  const text = night ? "#e4e4e4" : "#222", line = night ? "#777" : "#444";
  const back = night ? "#17191c" : "#fff";
  const result = { ...layout, paper_bgcolor: back, plot_bgcolor: back, font: { ...layout.font, color: text } };
  for (const key of Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k)))
    result[key] = { ...layout[key], color: text, linecolor: line, tickcolor: line, gridcolor: night ? "#333" : "#eee" };
  result.hoverlabel = { bgcolor: night ? "#333" : "#fff", bordercolor: line, font: { color: text } };
  return result;
}

function draw(plot) {
  const figure = read(plot.dataset.figure);
  const layout = themed(figure.layout);
  if (narrow.matches && plot.clientWidth < 600) layout.margin = { ...layout.margin, l: Math.min(layout.margin.l ?? 60, 45), r: 26 };
  // Plotly's button that sends a chart to its cloud is left out: a page opens no connection.
  const settings = { displaylogo: false, responsive: true, plotlyServerURL: "",
    displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"],
    toImageButtonOptions: { format: "svg", filename: plot.dataset.name } };
  Plotly.react(plot, figure.data, layout, settings);
  if (!plot.dataset.drawn) performance.mark(plot.dataset.name);
  if (plot.dataset.drawn) return;
  plot.dataset.drawn = "yes";
  plot.on("plotly_click", (event) => { const at = event.points[0].customdata; if (typeof at === "string") show(at, true); });
  plot.on("plotly_hover", (event) => { picture(event.points[0].customdata); });
  plot.on("plotly_unhover", () => picture(null));
}

let pictures = null;
function picture(key) {
  const box = document.getElementById("photo");
  if (!box) return;
  pictures ??= read("pictures");  // megabytes, so not before the first is wanted
  box.hidden = !(typeof key === "string" && Object.hasOwn(pictures, key));
  if (!box.hidden) box.firstElementChild.src = pictures[key];
}

const plots = [...document.querySelectorAll(".plot")];
const redraw = () => plots.filter((p) => p.dataset.drawn).forEach(draw);
const near = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((e) => e.isIntersecting)) { near.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "200px" });
plots.forEach((p) => near.observe(p));
// The others follow when the browser is idle, so that all are there before they are scrolled to.
const idle = (next) => window.requestIdleCallback ? requestIdleCallback(next, { timeout: 300 }) : setTimeout(next, 50);
function rest() {
  const plot = plots.find((p) => !p.dataset.drawn);
  if (plot) { draw(plot); idle(rest); }
}
addEventListener("load", () => idle(rest));
for (const change of [dark, narrow]) change.addEventListener("change", redraw);
addEventListener("beforeprint", () => { printing = true; plots.forEach(draw); });
addEventListener("afterprint", () => { printing = false; redraw(); });

// Tables: a click on a heading sorts; a click on a trial's name shows its recipe.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.trial) show(button.dataset.trial, true);
  if (button?.dataset.copy) copy(document.getElementById(button.dataset.copy), button);
  if (!button || !button.closest("th")) return;
  const head = button.closest("th"), body = head.closest("table").tBodies[0], column = head.cellIndex;
  const up = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
  const value = (row) => row.cells[column].textContent.trim();
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)], [p, q] = [parseFloat(x), parseFloat(y)];
    if (isNaN(p) || isNaN(q)) return isNaN(p) === isNaN(q) ? up * x.localeCompare(y) : isNaN(p) ? 1 : -1;
    return up * (p - q);
  };
  body.append(...[...body.rows].sort(order));
});

async function copy(source, button) {
  try { await navigator.clipboard.writeText(source.textContent); } catch {
    getSelection().selectAllChildren(source); document.execCommand("copy");
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

// One trial: its recipe, the command that trains it, and how it differs from another.
const trials = read("trials");
function flat(yaml) {  // dotted field to value, of the block style that the page writes
  const result = {}, path = [];
  for (const line of yaml.split("\n").filter(Boolean)) {
    const [, indent, rest] = line.match(/^( *)(.*)$/), depth = indent.length / 2;
    if (rest.startsWith("- ") || rest === "-") {
      const key = path.join(".");
      result[key] = [result[key], rest.slice(2)].filter(Boolean).join(", ");
      continue;
    }
    const [, key, value] = rest.match(/^([^:]*):\s?(.*)$/) ?? [null, rest, ""];
    path.splice(depth, path.length, key);
    if (value) result[path.join(".")] = value;
  }
  return result;
}
function show(name, scroll) {
  if (!trials || !Object.hasOwn(trials, name)) return;
  const [one, other] = ["one", "other"].map((id) => document.getElementById(id));
  one.value = name;
  const trial = trials[name], against = trials[other.value];
  document.getElementById("facts").textContent = trial.facts;
  document.getElementById("command").textContent = trial.command;
  document.getElementById("yaml").textContent = trial.yaml;
  const rows = document.getElementById("differences");
  rows.replaceChildren();
  if (against) {
    const [a, b] = [flat(trial.yaml), flat(against.yaml)];
    for (const field of new Set([...Object.keys(a), ...Object.keys(b)])) {
      if (a[field] === b[field]) continue;
      const row = rows.insertRow();
      for (const text of [field, a[field] ?? "-", b[field] ?? "-"]) row.insertCell().textContent = text;
    }
    if (!rows.rows.length) rows.insertRow().insertCell().textContent = "no difference";
  }
  if (scroll) document.getElementById("trial").scrollIntoView({ behavior: "smooth" });
}
if (trials) {
  for (const id of ["one", "other"]) document.getElementById(id).addEventListener("change", () =>
    show(document.getElementById("one").value, false));
  show(document.getElementById("one").value, false);
}
