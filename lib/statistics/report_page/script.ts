/**
 * Draws the layer and the step that are chosen. They are also in the page's address, as #layer=2&step=5, so that they can be
 * linked to. Step 0 is all calls together.
 */
export const pageScript = `"use strict";
{
const at = (id) => document.getElementById(id);
const { palette, layers } = JSON.parse(at("data").textContent);
const colors = palette.map((hex) => [1, 3, 5].map((begin) => parseInt(hex.slice(begin, begin + 2), 16)));
let layer = 0;
let step = 0;

const whole = (count) => count.toLocaleString("en-US");
const meanOf = ({ counts }) => counts.reduce((a, b) => a + b, 0) / counts.length;
const loadsOf = (part) => { const mean = meanOf(part); return part.counts.map((count) => (mean === 0 ? 0 : count / mean)); };
const largest = (values, least) => values.reduce((a, b) => Math.max(a, b), least);
const callsOf = ({ first, calls }) => calls === 1 ? "call " + whole(first) : "calls " + whole(first) + "–" + whole(first + calls - 1);
const nameOf = (number) => number === 0
  ? "all calls together" : "step " + number + " of " + layers[layer].steps.length + ", " + callsOf(layers[layer].steps[number - 1]);

/** The colour of a share of the largest load: red, green, blue, alpha. No load is blank. */
function color(share) {
  if (share === 0) return [0, 0, 0, 0];
  const place = Math.min(share, 1) * (colors.length - 1);
  const lower = Math.min(Math.floor(place), colors.length - 2);
  return [0, 1, 2].map((part) => colors[lower][part] + (place - lower) * (colors[lower + 1][part] - colors[lower][part])).concat(255);
}

/** Paints columns of shares, one pixel for each. */
function paint(canvas, columns, height) {
  canvas.width = columns.length;
  canvas.height = height;
  const image = new ImageData(columns.length, height);
  columns.forEach((column, x) => column.forEach((share, y) => image.data.set(color(share), 4 * (y * columns.length + x))));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** A line with one level for each value, and a dashed one across. */
function drawCurve(id, values, across, top) {
  const y = (value) => 98 - 94 * value / top;
  const line = values.map((value, index) => (index === 0 ? "M0 " : "V") + y(value) + "H" + (index + 1)).join("");
  const svg = at(id).querySelector("svg");
  svg.setAttribute("viewBox", "0 0 " + values.length + " 100");
  svg.innerHTML = '<path d="' + line + '"/><line x1="0" x2="' + values.length + '" y1="' + y(across) + '" y2="' + y(across) + '"/>';
}

function drawLayer() {
  const { name, all, steps } = layers[layer];
  at("heading").textContent = name;
  at("layer").value = layer;
  at("step").max = steps.length;
  [...document.querySelectorAll("#layers tbody tr")].forEach((row, index) => row.setAttribute("aria-current", index === layer));
  at("plots").hidden = steps.length === 0;
  at("nothing").hidden = steps.length > 0;
  if (steps.length === 0) return;
  const experts = all.counts.length;
  const loads = steps.map(loadsOf);
  const top = largest(loads.flat(), 2);
  const canvas = at("heat").querySelector("canvas");
  paint(canvas, loads.map((column) => column.map((load) => load / top)), experts);
  canvas.style.height = experts * Math.min(18, Math.max(2, Math.floor(560 / experts))) + "px";
  at("lastExpert").textContent = experts - 1;
  at("lastBar").textContent = experts - 1;
  at("lastCall").textContent = whole(all.calls - 1);
  at("top").textContent = top.toFixed(1);
  paint(at("scale"), Array.from({ length: 256 }, (_, index) => [(index + 1) / 256]), 1);
  const violations = steps.map(({ violation }) => violation);
  const highest = largest(violations, all.violation) || 1;
  drawCurve("violation", violations, all.violation, highest);
  at("violationTop").textContent = highest.toFixed(2);
  at("violationAll").textContent = "of all calls together: " + all.violation.toFixed(3);
  const alike = Math.log(experts) || 1;
  drawCurve("entropy", steps.map(({ entropy }) => entropy), all.entropy, alike);
  at("entropyTop").textContent = "ln " + experts;
  at("entropyAll").textContent = "of all calls together: " + all.entropy.toFixed(3) + " of at most " + alike.toFixed(3);
}

function drawStep() {
  const { all, steps } = layers[layer];
  const part = step === 0 ? all : steps[step - 1];
  const { tokens, choices, dropped, counts, violation, entropy } = part;
  at("step").value = step;
  at("step").setAttribute("aria-valuetext", nameOf(step));
  at("shown").textContent = nameOf(step);
  const facts = [
    ["calls", whole(part.calls)],
    ["tokens", whole(tokens)],
    ["dropped choices", whole(dropped) + " of " + whole(choices)],
    ["experts without tokens", whole(counts.filter((count) => count === 0).length) + " of " + counts.length],
    ["maximum violation, " + (step === 0 ? "all calls together" : "of this step"), violation.toFixed(3)],
    ["mean entropy", entropy.toFixed(3)],
  ];
  at("facts").innerHTML = facts.map(([name, value]) => "<div><dt>" + name + "</dt><dd>" + value + "</dd></div>").join("");
  for (const cursor of document.querySelectorAll(".cursor")) {
    cursor.hidden = step === 0;
    cursor.style.left = 100 * (step - 1) / steps.length + "%";
    cursor.style.width = 100 / steps.length + "%";
  }
  const mean = meanOf(part);
  const top = largest(counts, 1);
  const y = (value) => 100 - 96 * value / top;
  const bars = counts.map((count, id) => '<rect x="' + (id + .1) + '" width=".8" y="' + y(count) + '" height="' + (100 - y(count)) + '"/>');
  const svg = at("bars").querySelector("svg");
  svg.setAttribute("viewBox", "0 0 " + counts.length + " 100");
  svg.innerHTML = bars.join("") + '<line x1="0" x2="' + counts.length + '" y1="' + y(mean) + '" y2="' + y(mean) + '"/>';
  at("barsHeading").textContent = "Tokens per expert, " + nameOf(step);
  at("barsTop").textContent = whole(top);
  at("barsMean").textContent = "mean of the experts: " + mean.toLocaleString("en-US", { maximumFractionDigits: 2 });
  const loads = loadsOf(part);
  at("numbers").innerHTML = counts.map((count, id) => "<tr><td>" + id + "<td>" + whole(count) + "<td>" + loads[id].toFixed(2)).join("");
}

/** Chooses what the address says, or the nearest that there is. */
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const within = (name, last) => Math.min(Math.max(Math.trunc(Number(wanted.get(name))) || 0, 0), last);
  layer = within("layer", layers.length - 1);
  step = within("step", layers[layer].steps.length);
  drawLayer();
  drawStep();
}

function choose(newLayer, newStep) {
  const changed = newLayer !== layer;
  layer = newLayer;
  step = Math.min(newStep, layers[layer].steps.length);
  if (changed) drawLayer();
  drawStep();
}
const writeAddress = () => history.replaceState(null, "", "#layer=" + layer + "&step=" + step);

/** The step and the share of the height that the pointer is at. */
function placeOf(area, { clientX, clientY }) {
  const { left, top, width, height } = area.getBoundingClientRect();
  const count = layers[layer].steps.length;
  const share = Math.min(Math.max((clientY - top) / height, 0), 1 - 1e-9);
  return { number: Math.min(Math.max(Math.floor((clientX - left) / width * count), 0), count - 1) + 1, share };
}

at("layer").addEventListener("change", ({ target }) => { choose(Number(target.value), step); writeAddress(); });
at("step").addEventListener("input", ({ target }) => choose(layer, Number(target.value)));
at("step").addEventListener("change", writeAddress);
for (const area of [at("heat"), at("violation"), at("entropy")]) {
  area.addEventListener("click", (event) => { choose(layer, placeOf(area, event).number); writeAddress(); });
}
at("heat").addEventListener("pointermove", (event) => {
  const { number, share } = placeOf(at("heat"), event);
  const part = layers[layer].steps[number - 1];
  const expert = Math.floor(share * part.counts.length);
  at("pointed").textContent =
    "Expert " + expert + ", " + nameOf(number) + ": " + whole(part.counts[expert]) + " tokens, " + loadsOf(part)[expert].toFixed(2) + " × mean";
});
addEventListener("hashchange", readAddress);

const strips = layers.map(({ all }) => loadsOf(all));
const top = largest(strips.flat(), 2);
document.querySelectorAll(".strip").forEach((canvas, index) => paint(canvas, strips[index].map((load) => [load / top]), 1));
at("chosen").hidden = false;
readAddress();
}
`;
