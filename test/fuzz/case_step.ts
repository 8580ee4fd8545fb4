import { inspect } from "node:util";
import { runCase } from "../../lib/testing/run.js";
import type { Draw } from "./draw.js";
import { problems } from "./problems.js";
import { Failure, type Step } from "./step.js";

/** A random problem of lib/testing: accepted, and compared with `reference` within the case's tolerances. */
export function caseStep(draw: Draw): Step {
  const name = draw.pick(Object.keys(problems));
  const args = (problems[name] as (typeof problems)[string]).draw(draw);
  return stepOf(name, args, draw.optional);
}

function stepOf(name: string, args: readonly unknown[], optional: ReadonlySet<string>): Step {
  const text = args.map((arg) => inspect(arg, { depth: null, breakLength: Infinity }));
  return {
    source: `runCase(${name}Case(${text.join(", ")}), device)`,
    async run(device) {
      const subject = (problems[name] as (typeof problems)[string]).make(args);
      const { checks } = await runCase(subject, device);
      const wrong = checks.filter(({ passed }) => !passed);
      if (wrong.length === 0) return "compared";
      const list = wrong.map(({ output, error, tolerance }) => `${output} off by ${error}, tolerance ${tolerance}`);
      throw new Failure(`${subject.name}: ${list.join("; ")}`);
    },
    *smaller() {
      for (const less of smallerValues(args, optional)) yield stepOf(name, less as unknown[], optional);
    },
  };
}

/**
 * Values with one number smaller or one of the `optional` fields less. Many are no valid problems; these do not fail alike.
 * Without any other field the case might, for another reason.
 */
export function* smallerValues(value: unknown, optional: ReadonlySet<string>): Generator<unknown> {
  if (typeof value === "number") {
    for (const less of [1, Math.floor(value / 2), value - 1]) if (less >= 0 && less < value) yield less;
    return;
  }
  if (typeof value !== "object" || value === null) return;
  for (const [name, part] of Object.entries(value)) {
    const copy = (replacement: unknown) =>
      Array.isArray(value) ? value.with(Number(name), replacement) : { ...value, [name]: replacement };
    if (!Array.isArray(value) && optional.has(name))
      yield Object.fromEntries(Object.entries(value).filter(([other]) => other !== name));
    for (const less of smallerValues(part, optional)) yield copy(less);
  }
}
