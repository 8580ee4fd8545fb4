const eighths = " ▁▂▃▄▅▆▇█";
const height = 5;

/** The largest of any number of counts; as arguments of Math.max, very many would overflow the stack. */
export function largestOf(counts: readonly number[]): number {
  return counts.reduce((largest, count) => Math.max(largest, count), 0);
}

/**
 * Draws counts as vertical bars, at most `columns` characters wide. Bars that do not fit go into further charts below,
 * all to the same scale. A count above 0 shows at least an eighth of a character.
 */
export function barChart(counts: readonly number[], columns: number): string {
  const largest = Math.max(1, largestOf(counts));
  const margin = String(largest).length;
  const room = Math.max(8, columns - margin - 2);
  const barWidth = Math.max(1, Math.min(4, Math.floor(room / counts.length)));
  const perChart = Math.floor(room / barWidth);
  const charts: string[] = [];
  for (let first = 0; first < counts.length; first += perChart) {
    charts.push(chart(counts.slice(first, first + perChart), first, largest, margin, barWidth));
  }
  return charts.join("");
}

function chart(counts: readonly number[], first: number, largest: number, margin: number, barWidth: number): string {
  const levels = counts.map((count) => (count === 0 ? 0 : Math.max(1, Math.round((count / largest) * height * 8))));
  const gap = barWidth > 1 ? " " : "";
  const lines = Array.from({ length: height }, (_, line) => {
    const below = (height - 1 - line) * 8;
    const cells = levels.map((level) => {
      const cell = eighths[Math.max(0, Math.min(8, level - below))] as string;
      return cell.repeat(barWidth - gap.length) + gap;
    });
    const label = line === 0 ? String(largest) : "";
    return `${label.padStart(margin)} │${cells.join("")}`;
  });
  const axis = `${"0".padStart(margin)} └${"─".repeat(counts.length * barWidth)}`;
  const labels = `${" ".repeat(margin + 2)}${axisLabels(counts.length, first, barWidth)}`;
  return [...lines, axis, labels].map((line) => `${line.trimEnd()}\n`).join("");
}

/** Numbers below the bars, as many as fit without touching. */
function axisLabels(count: number, first: number, barWidth: number): string {
  const widest = String(first + count - 1).length + 1;
  const step = [1, 2, 4, 8, 16, 32].find((candidate) => candidate * barWidth >= widest) ?? 64;
  let line = "";
  for (let bar = 0; bar < count; bar += step) line = line.padEnd(bar * barWidth) + String(first + bar);
  return line;
}
