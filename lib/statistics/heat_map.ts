import { boolean, type Fields, integer, object, optional } from "../core/input/options.js";
import { historyArgument, joinWindows, type RouterHistory, relativeLoad } from "./router_history.js";

/** Options of {@link heatMap}. */
export interface HeatMapOptions {
  /** Width in characters; default 80. Neighbouring windows are merged if there are more than fit. */
  columns?: number | undefined;
  /** Use ANSI colours (256), two experts per line. Default false: shades, one expert per line. */
  color?: boolean | undefined;
}

const mapOptions = object(
  { columns: optional(integer(20), 80), color: optional(boolean, false) } satisfies Fields<HeatMapOptions>,
  "{ columns: 80 }",
);

/** From no tokens to the largest load. */
const shades = [" ", "·", "░", "▒", "▓", "█"];
/** Terminal colours (of 256): near black, then from violet through green to yellow. */
const colors = [234, 53, 54, 61, 31, 37, 36, 42, 77, 113, 149, 190, 226];

/**
 * Draws the load of every expert over time as text: a line per expert (or two), a cell per window. The brighter a cell,
 * the more tokens the expert got, relative to the mean over the experts in that window.
 *
 * @param history from RouterStats.read().
 * @throws INVALID_ARGUMENT.
 */
export function heatMap(history: RouterHistory, options: HeatMapOptions = {}): string {
  const { columns, color } = mapOptions(options, "options");
  const { calls, tokensPerExpert, windows: recorded } = historyArgument(history, "history");
  const experts = tokensPerExpert.length;
  const margin = String(experts - 1).length;
  const room = columns - margin - 2;
  const windows = joinWindows(recorded, room);
  if (windows.length === 0) return "no calls recorded\n";
  const cellWidth = Math.max(1, Math.min(3, Math.floor(room / windows.length)));
  const loads = windows.map(relativeLoad);
  const top = loads.flat().reduce((a, b) => Math.max(a, b), 2);
  const paint = color ? colored : shaded;
  const step = color ? 2 : 1;
  const lines = Array.from({ length: Math.ceil(experts / step) }, (_, line) => {
    const first = line * step;
    const cells = loads.map((load) =>
      paint(level(load[first], top, color), level(load[first + 1], top, color), cellWidth),
    );
    return `${String(first).padStart(margin)} │${cells.join("")}`;
  });
  const axis = `${" ".repeat(margin)} └${"─".repeat(windows.length * cellWidth)}`;
  return `${[...lines, axis, callLabels(calls, margin, windows.length * cellWidth), legend(top, color)].join("\n")}\n`;
}

/**
 * Index of the shade or colour for a load: the first is for 0 only, the last for the largest load; undefined past the
 * last expert.
 */
function level(load: number | undefined, top: number, color: boolean): number | undefined {
  if (load === undefined) return undefined;
  const last = (color ? colors : shades).length - 1;
  return load === 0 ? 0 : Math.max(1, Math.round((load / top) * last));
}

function shaded(upper: number | undefined, _lower: number | undefined, width: number): string {
  return (shades[upper ?? 0] as string).repeat(width);
}

/** Two experts in one line: an upper half block in the first's colour on a background in the second's. */
function colored(upper: number | undefined, lower: number | undefined, width: number): string {
  const background = lower === undefined ? "" : `\u001b[48;5;${colors[lower]}m`;
  return `\u001b[38;5;${colors[upper ?? 0]}m${background}${"▀".repeat(width)}\u001b[0m`;
}

/** The numbers of the first call and, if there is room, the last. */
function callLabels(calls: number, margin: number, width: number): string {
  const [first, last] = ["call 0", String(calls - 1)];
  const gap = width - first.length - last.length;
  return " ".repeat(margin + 2) + (calls > 1 && gap > 0 ? first + " ".repeat(gap) + last : first);
}

function legend(top: number, color: boolean): string {
  const scale = color ? colors.map((_, index) => colored(index, index, 1)).join("") : shades.join("");
  return `tokens / mean of the experts: 0 ${scale} ${top.toFixed(1)}`;
}
