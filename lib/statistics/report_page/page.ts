import { packageVersion } from "../../core/addon/version.js";
import { escaped, htmlFacts, htmlPage } from "../../core/text/markup.js";
import { pageScript } from "./script.js";
import { pageStyle } from "./style.js";
import { type ReportedRouter, type RouterSteps, routerSteps, violationOfSteps } from "./summaries.js";
import { terms } from "./terms.js";

/** What a page says besides the routers' histories. */
export interface PageHead {
  readonly title: string;
  readonly date: string;
  readonly device: string | undefined;
  /** A paragraph. */
  readonly about: string | undefined;
}

/** The page of some routers: a table of all, and charts of the one that is chosen, which the page's own script draws. */
export function routerPage({ title, date, device, about }: PageHead, routers: readonly ReportedRouter[]): string {
  const all = routers.map(routerSteps);
  const facts: (readonly [string, string])[] = [
    ["date", escaped(date)],
    ...(device === undefined ? [] : [["device", escaped(device)] as const]),
    ["moe-kernels", packageVersion],
  ];
  const body = [
    ...(about === undefined ? [] : [`<p>${escaped(about)}</p>`]),
    htmlFacts(facts),
    "<h2>Layers</h2>",
    layerTable(routers, all),
    "<noscript><p>The charts need JavaScript. It is part of this page, which loads nothing.</p></noscript>",
    chosenLayer(all),
    "<h2>Terms</h2>",
    `<dl class="terms">\n${terms.map(([term, text]) => `<dt>${term}</dt><dd>${text}</dd>`).join("\n")}\n</dl>`,
    `<script type="application/json" id="data">${jsonInHtml({ palette: viridis, layers: all })}</script>`,
  ].join("\n");
  return htmlPage({ title: escaped(title), width: 1060, style: pageStyle, body, script: pageScript });
}

/** From no load to the largest: matplotlib's viridis at equal distances. */
const viridis = [
  "#440154",
  "#482878",
  "#3e4a89",
  "#31688e",
  "#26828e",
  "#1f9e89",
  "#35b779",
  "#6ece58",
  "#b5de2b",
  "#fde725",
];

/** The heads of the table's columns, a line for each row of heads. */
const heads = [
  ["layer", "dtype", "top&#8209;k", "experts", "unused", "load", "tokens", "dropped"],
  ["all calls together", "mean of the steps", "highest step"],
] as const;

function layerTable(routers: readonly ReportedRouter[], all: readonly RouterSteps[]): string {
  const rows = all.map(({ name, all: whole, steps }, index) => {
    const { tokens, choices, dropped, counts, violation, entropy } = whole;
    const ofSteps = violationOfSteps(steps);
    const cells = [
      `<a href="#layer=${index}">${escaped(name)}</a>`,
      escaped(routers[index]?.dtype ?? "–"),
      tokens === 0 ? "–" : Number((choices / tokens).toFixed(2)),
      counts.length,
      counts.filter((count) => count === 0).length,
      `<canvas class="strip" role="img" aria-label="load of the experts of ${escaped(name)}"></canvas>`,
      grouped(tokens),
      `${choices === 0 ? 0 : ((100 * dropped) / choices).toFixed(2)}%`,
      violation.toFixed(3),
      ofSteps.mean.toFixed(3),
      ofSteps.largest.toFixed(3),
      `${entropy.toFixed(2)} of ${Math.log(counts.length).toFixed(2)}`,
    ];
    return `<tr>${cells.map((cell) => `<td>${cell}`).join("")}`;
  });
  const [upper, lower] = heads;
  const over = (text: string) => `<th rowspan="2" scope="col">${text}`;
  return `<div class="wide" tabindex="0" role="region" aria-label="layers"><table id="layers">
<thead><tr>${upper.map(over).join("")}<th colspan="3" scope="colgroup" class="group">maximum violation${over("mean entropy")}
<tr>${lower.map((text) => `<th scope="col">${text}`).join("")}
<tbody>
${rows.join("\n")}
</table></div>`;
}

/** Where the script draws; hidden without it. */
function chosenLayer(all: readonly RouterSteps[]): string {
  const names = all.map(({ name }, index) => `<option value="${index}">${escaped(name)}`).join("");
  return `<section id="chosen" hidden>
<h2 id="heading"></h2>
<div class="controls">
<label>Layer <select id="layer">${names}</select></label>
<label class="slider">Step <input type="range" id="step" min="0" value="0"></label>
<output id="shown" for="step"></output>
</div>
<dl id="facts"></dl>
<p id="nothing">No calls were recorded.</p>
<div id="plots">
<h3>Load of every expert in every step</h3>
<div class="plot"><div class="axis"><span>0</span><span>expert</span><span id="lastExpert"></span></div><div class="area" id="heat"><canvas role="img" aria-label="heat map: a row for each expert, a column for each step"></canvas><div class="cursor"></div></div>
<div></div><div class="axis calls"><span>call 0</span><span id="lastCall"></span></div></div>
<p class="under"><span class="legend">tokens / mean of the experts: 0 <canvas id="scale" width="256" height="1"></canvas> <span id="top"></span></span><span><span class="blank"></span> no tokens</span></p>
<p id="pointed" aria-live="polite">Point at a cell for its numbers. Click on a step to choose it.</p>
<h3>Maximum violation</h3>
<div class="plot"><div class="axis"><span id="violationTop"></span><span>0</span></div><div class="area curve" id="violation"><svg preserveAspectRatio="none" role="img" aria-label="maximum violation of every step"></svg><div class="cursor"></div></div></div>
<p class="under"><span class="line">of each step by itself</span><span class="dashed" id="violationAll"></span></p>
<h3>Mean entropy of the router</h3>
<div class="plot"><div class="axis"><span id="entropyTop"></span><span>0</span></div><div class="area curve" id="entropy"><svg preserveAspectRatio="none" role="img" aria-label="mean entropy of every step"></svg><div class="cursor"></div></div></div>
<p class="under"><span class="line">of each step by itself</span><span class="dashed" id="entropyAll"></span></p>
<h3 id="barsHeading"></h3>
<div class="plot"><div class="axis"><span id="barsTop"></span><span>0</span></div><div class="area bars" id="bars"><svg preserveAspectRatio="none" role="img" aria-label="tokens of every expert"></svg></div>
<div></div><div class="axis calls"><span>expert 0</span><span id="lastBar"></span></div></div>
<p class="under"><span class="dashed" id="barsMean"></span></p>
<details><summary>The same as a table</summary><div class="wide" tabindex="0" role="region" aria-label="tokens of every expert"><table><thead><tr><th>expert<th>tokens<th>tokens / mean<tbody id="numbers"></table></div></details>
</div>
</section>`;
}

/** JSON within a script element, which nothing in it can end. */
function jsonInHtml(value: unknown): string {
  const shortened = (_: string, entry: unknown) => (typeof entry === "number" ? Number(entry.toPrecision(15)) : entry);
  return JSON.stringify(value, shortened).replaceAll("<", "\\u003c");
}

function grouped(count: number): string {
  return count.toLocaleString("en-US");
}
