import type { Device } from "../../lib/index.js";
import { argumentLists, type PublicCall } from "../support/public_calls/index.js";
import { drawPath, type Path, replaced, sourceOf } from "./arguments.js";
import type { Draw } from "./draw.js";
import { hostile, hostileCount } from "./hostile.js";
import { refusedOr, type Step } from "./step.js";
import { use } from "./use.js";

/** The public calls of one device. */
export interface Target {
  readonly calls: readonly PublicCall[];
  /** Another device, for tensors that are out of place. */
  readonly other: Device;
}

/** A change of an argument: at `path` stands hostile value `index`. */
interface Change {
  readonly path: Path;
  readonly index: number;
}

interface Attack {
  readonly call: number;
  readonly options: number;
  readonly changes: readonly Change[];
}

/** A public call with one or two hostile values among its arguments: it is accepted or refused. */
export function hostileStep(draw: Draw, targets: ReadonlyMap<Device, Target>): Step {
  const [{ calls }] = targets.values() as unknown as [Target];
  const takeArguments = calls.flatMap((each, index) => (argumentLists(each)[0]?.length ? [index] : []));
  const call = draw.pick(takeArguments);
  const lists = argumentLists(calls[call] as PublicCall);
  const options = draw.integer(0, lists.length - 1);
  const args = lists[options] as unknown[];
  const draws = Array.from({ length: draw.chance(0.7) ? 1 : 2 }, () => ({
    path: drawPath(draw, args),
    index: draw.integer(0, hostileCount - 1),
  }));
  const [first, second] = draws as [Change, Change?];
  const changes = second === undefined || overlap(first.path, second.path) ? [first] : [first, second];
  return stepOf({ call, options, changes }, targets);
}

/** Whether one of two values is within the other, or they are the same. */
function overlap(a: Path, b: Path): boolean {
  return a.slice(0, b.length).every((name, index) => name === b[index]);
}

function stepOf(attack: Attack, targets: ReadonlyMap<Device, Target>): Step {
  const { call, options, changes } = attack;
  const make = (device: Device) => {
    const { calls, other } = targets.get(device) as Target;
    const subject = calls[call] as PublicCall;
    const written = new Map<string, string>();
    let args: unknown = argumentLists(subject)[options];
    for (const { path, index } of changes) {
      const { source, value } = hostile(index, device, other);
      args = replaced(args, path, value);
      written.set(JSON.stringify(path), source);
    }
    return { subject, args: args as unknown[], written };
  };
  const [first] = targets.keys() as unknown as [Device];
  const { subject, args, written } = make(first);
  return {
    source: `${subject.name}(${args.map((value, index) => sourceOf(value, written, [index])).join(", ")})`,
    run: (device) =>
      refusedOr(async () => {
        const made = make(device);
        try {
          const result = await made.subject.call(...made.args);
          await use(result);
        } finally {
          await device.synchronize();
        }
        return "accepted";
      }),
    *smaller() {
      if (changes.length > 1) for (const change of changes) yield stepOf({ ...attack, changes: [change] }, targets);
    },
  };
}
