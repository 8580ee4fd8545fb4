import { inspect, types } from "node:util";
import { PackedExperts, Tensor } from "../../lib/index.js";
import type { Draw } from "./draw.js";

/** Where a value is among arguments: an index, then names and indices within. */
export type Path = readonly (string | number)[];

function isContainer(value: unknown): value is Record<string | number, unknown> {
  if (typeof value !== "object" || value === null || types.isProxy(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === Array.prototype;
}

/** The paths of all values in arguments, at every depth. */
export function paths(value: unknown, prefix: Path = []): Path[] {
  if (!isContainer(value)) return [prefix];
  const within = Object.keys(value).flatMap((name) =>
    paths(value[name], [...prefix, Array.isArray(value) ? Number(name) : name]),
  );
  return prefix.length === 0 ? within : [prefix, ...within];
}

/** A copy in which another value is at `path`, which may be new. */
export function replaced(target: unknown, [name, ...rest]: Path, value: unknown): unknown {
  if (name === undefined) return value;
  if (!isContainer(target)) return target;
  const copy = (Array.isArray(target) ? [...target] : { ...target }) as Record<string | number, unknown>;
  const part = rest.length === 0 ? value : replaced(Object.hasOwn(copy, name) ? copy[name] : undefined, rest, value);
  // Assigning to __proto__ would change the copy's prototype.
  return Object.defineProperty(copy, name, { value: part, enumerable: true, configurable: true, writable: true });
}

/** One of the paths, or that of an option that does not exist. */
export function drawPath(draw: Draw, args: readonly unknown[]): Path {
  const path = draw.pick(paths(args));
  return draw.chance(0.03) ? [...path.slice(0, -1), draw.pick(["unknown", "__proto__", "toString"])] : path;
}

/** Arguments as JavaScript; `written` has the text of those values whose text is known. */
export function sourceOf(value: unknown, written: ReadonlyMap<string, string>, path: Path = []): string {
  const known = written.get(JSON.stringify(path));
  if (known !== undefined) return known;
  if (value instanceof Tensor) return `device.zeros([${value.shape.join(", ")}], "${value.dtype}")`;
  if (value instanceof PackedExperts)
    return `api.packExperts(device.zeros([${value.shape.join(", ")}], "${value.dtype}"))`;
  if (!isContainer(value))
    return typeof value === "object" || typeof value === "function"
      ? `${inspect(value, { depth: 0, breakLength: Infinity })}`
      : inspect(value);
  const part = (name: string | number) => sourceOf(value[name], written, [...path, name]);
  if (Array.isArray(value)) return `[${value.map((_, index) => part(index)).join(", ")}]`;
  return `{ ${Object.keys(value)
    .map((name) => `${JSON.stringify(name)}: ${part(name)}`)
    .join(", ")} }`;
}
