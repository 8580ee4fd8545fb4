/** A line of a chart: points in order of x. */
export interface Line {
  /** Lines of one name have one colour and one entry in the legend. */
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly dashed?: boolean;
}

export interface LineChart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly lines: readonly Line[];
  /** Lowest and highest y; default those of the points. */
  readonly range?: readonly [number, number];
}

const [width, height] = [720, 360];
const [left, right, top, bottom] = [80, 150, 44, 48];
const colours = ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf"];
/** Longer lines are drawn as the means of this many parts. */
const mostPoints = 200;

/** Draws lines as SVG. */
export function drawLineChart({ title, x, y, lines, range }: LineChart): string {
  const drawn = lines
    .map((line) => ({ ...line, points: thinned(line.points) }))
    .filter(({ points }) => points.length > 0);
  const all = drawn.flatMap(({ points }) => points);
  const [x0, x1] = span(all.map(([value]) => value));
  const [y0, y1] = range ?? span(all.map(([, value]) => value));
  const placeX = (value: number) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const placeY = (value: number) =>
    height - bottom - ((Math.min(y1, value) - y0) / (y1 - y0)) * (height - top - bottom);
  const names = [...new Set(drawn.map(({ name }) => name))];
  const colour = (name: string) => colours[names.indexOf(name) % colours.length];
  const text = (at: [number, number], words: string, more = "") =>
    `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" ${more}>${escaped(words)}</text>`;
  const parts = [
    text([left, 18], title, 'font-weight="bold"'),
    text([(left + width - right) / 2, height - 10], x, 'text-anchor="middle"'),
    text([left, top - 6], y, 'text-anchor="end" font-size="11"'),
  ];
  for (const tick of ticks(y0, y1)) {
    const at = placeY(tick);
    parts.push(`<path d="M${left} ${at.toFixed(1)}H${width - right}" stroke="#ddd"/>`);
    parts.push(text([left - 6, at + 4], label(tick), 'text-anchor="end"'));
  }
  for (const tick of ticks(x0, x1))
    parts.push(text([placeX(tick), height - bottom + 18], label(tick), 'text-anchor="middle"'));
  for (const { name, points, dashed } of drawn) {
    const path = points.map(([px, py]) => `${placeX(px).toFixed(1)},${placeY(py).toFixed(1)}`).join(" ");
    const dashes = dashed ? ' stroke-dasharray="5 4"' : "";
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour(name)}" stroke-width="1.5"${dashes}/>`);
  }
  names.forEach((name, index) => {
    const [lineX, lineY] = [width - right + 12, top + 8 + 18 * index];
    parts.push(`<path d="M${lineX} ${lineY}h18" stroke="${colour(name)}" stroke-width="2"/>`);
    parts.push(text([lineX + 24, lineY + 4], name));
  });
  const attributes = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${attributes}>\n<title>${escaped(title)}</title>\n<rect width="100%" height="100%" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

/** Means of neighbouring points. */
function thinned(points: Line["points"]): Line["points"] {
  if (points.length <= mostPoints) return points;
  return Array.from({ length: mostPoints }, (_, part) => {
    const some = points.slice(
      Math.floor((part * points.length) / mostPoints),
      Math.floor(((part + 1) * points.length) / mostPoints),
    );
    const mean = (of: 0 | 1) => some.reduce((sum, point) => sum + point[of], 0) / some.length;
    return [mean(0), mean(1)] as const;
  });
}

function span(values: readonly number[]): [number, number] {
  if (values.length === 0) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** Round numbers within a range, about five. */
function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const found: number[] = [];
  for (let index = Math.ceil(low / step); index * step <= high * (1 + 1e-9); index++) found.push(index * step);
  return found;
}

function label(value: number): string {
  return String(Number(value.toPrecision(6)));
}

export function escaped(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
}
