import { inspect } from "node:util";
import type { OffloadPolicy, OffloadRule, OffloadStats } from "../core/device/backend.js";
import type { Device } from "../core/device/device.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { cannotCombine, invalidArgument, MoeError } from "../core/errors.js";
import { typedArray } from "../core/input/foreign.js";
import { choice, type Fields, integer, list, object, optional, type Read } from "../core/input/options.js";
import type { ExpertRange } from "../core/layer/expert_range.js";
import type { DeviceLayer } from "./device_layer.js";
import { budgetFields, budgetRule, givenBudget, type OffloadBudget } from "./offload_budget.js";

/**
 * How a layer whose experts are larger than the device's memory keeps some of them there. The others are in the host's
 * memory (`cuda`, `simt`) or in the mapped cache file (`cpu`), and are brought in when a forward needs them. Router, biases
 * and shared experts always stay. Results are bit for bit those of a layer without offload, unless `onMiss` leaves
 * experts to the CPU.
 */
export interface OffloadOptions {
  /** Room that the layer shares with others, of the same device and with experts of the same size. */
  budget?: OffloadBudget | undefined;
  /** How many of the bank's experts are resident at a time; at most all are. Either this, `bytes` or `budget`. */
  slots?: number | undefined;
  /** As many experts as fit into this many bytes, in the device's packed layout; at least one must fit. */
  bytes?: number | undefined;
  /**
   * Which resident expert makes room: the one used in the fewest forwards, where a use counts half after every 8E later
   * uses of any expert (`lfru`, default); the one whose last use is longest ago (`lru`); the one used in the fewest
   * forwards ever (`lfu`). Of several, the lowest.
   */
  policy?: OffloadPolicy | undefined;
  /**
   * Experts that are loaded when the layer is made and then stay, fewer than there are slots; so are those of all layers
   * that share a budget. Default none.
   */
  pinned?: readonly number[] | undefined;
  /**
   * What a forward does about experts that are not resident: `load` (default) brings them in. `cpu` has them computed by
   * the CPU meanwhile, and then brings in the one that the policy would rather have than one that is resident. `auto`
   * has the CPU compute those with fewer than ten rows, for which a load takes longer, and brings in
   * the others. With both, results agree with those of `load` as closely as two devices do, and the host holds the
   * experts twice: as the device packs them and as the CPU does. Not on `cpu`.
   */
  onMiss?: OnMiss | undefined;
}

const onMissValues = ["load", "cpu", "auto"] as const;
/**
 * What a forward does about experts that are not resident; see {@link OffloadOptions}.
 *
 * @useDeclaredType
 */
export type OnMiss = (typeof onMissValues)[number];

/**
 * From this many tokens on, `onMiss: "auto"` loads an expert. A load costs about as much as ten tokens do on the CPU: see
 * Fiddler (Kamahori et al., 2024), section 3.3.
 */
const rowsWorthLoading = 10;

const rowsToLoad: Readonly<Record<OnMiss, number>> = { load: 0, cpu: 2 ** 31, auto: rowsWorthLoading };

export const offloadOption = object(
  {
    budget: optional(givenBudget),
    ...budgetFields,
    pinned: optional(list(integer(0)), []),
    onMiss: optional(choice(onMissValues), "load"),
  } satisfies Fields<OffloadOptions>,
  "{ slots: 16 }",
);

/** Checks the option `offload` of a layer that holds these experts. */
export function offloadRule(
  given: Read<typeof offloadOption> | undefined,
  device: Device,
  { first, count }: ExpertRange,
): OffloadRule | undefined {
  if (given === undefined) return undefined;
  const { onMiss } = given;
  if (device.kind === "cpu" && onMiss !== "load") {
    throw invalidArgument("offload.onMiss", `"load" on cpu, which computes every expert itself`, onMiss);
  }
  const room = given.budget === undefined ? ownRoom(given, count) : sharedRoom(given.budget, given, device);
  const pinned = given.pinned.map((expert) => expert - first);
  pinned.forEach((expert, index) => {
    const name = `offload.pinned[${index}]`;
    if (expert < 0 || expert >= count) {
      throw invalidArgument(name, `an expert from ${first} to ${first + count - 1}`, expert + first);
    }
    if (pinned.indexOf(expert) !== index) throw invalidArgument(name, "every expert once", expert + first);
  });
  return { ...room, pinned, rowsToLoad: rowsToLoad[onMiss] };
}

type Room = Omit<OffloadRule, "pinned" | "rowsToLoad">;

function ownRoom(given: Read<typeof offloadOption>, count: number): Room {
  const { slots, ...rule } = budgetRule(given, "offload", "slots, bytes or budget");
  return { ...rule, slots: Math.min(slots, count), budget: null };
}

function sharedRoom(budget: OffloadBudget, given: Read<typeof offloadOption>, device: Device): Room {
  for (const name of ["slots", "bytes", "policy"] as const) {
    if (given[name] !== undefined) throw cannotCombine(`offload.${name}`, "offload.budget");
  }
  if (budget.device !== device) {
    const other = `got one of another device (${budget.device.name})`;
    const message = `offload.budget: expected a budget of the layer's device ${device.name}, ${other}`;
    throw new MoeError("DEVICE_MISMATCH", message);
  }
  return { slots: 0, bytes: 0, policy: "lfru", budget: budget.handle };
}

/** The experts of a layer that come and go; see {@link OffloadOptions}. */
export class ExpertOffload extends ThreadBound {
  readonly #layer: DeviceLayer;
  readonly #pinned: readonly number[];

  /** @internal Layers make it. */
  constructor(layer: DeviceLayer, { pinned }: OffloadRule) {
    super();
    this.#layer = layer;
    this.#pinned = pinned;
  }

  /** How many of the layer's experts can be resident at a time. */
  get slots(): number {
    return this.#layer.handle.offloadSlots;
  }

  /**
   * Enqueues loads of experts that a later forward may need, such as the ids that `route` gave for some tokens; those that
   * are resident, -1 and other banks' experts are ignored. They take slots as experts of a forward do. If there are more
   * than fit, the first ones are loaded. What follows does not wait for the loads until it needs an expert of this layer.
   * @throws INVALID_ARGUMENT, DISPOSED.
   */
  prefetch(ids: readonly number[] | Int32Array): void {
    const { handle, description } = this.#layer;
    const { first, count } = description.bank;
    const given = ArrayBuffer.isView(ids)
      ? Array.from(typedArray("ids", ids, ["Int32Array"], "a list or an Int32Array"))
      : ids;
    const experts = list(integer(-1, description.numExperts - 1))(given, "ids").map((id) => id - first);
    handle.prefetch(experts.filter((expert) => expert >= 0 && expert < count));
  }

  /**
   * What was done so far, once the work enqueued so far is done. Replays of a capture do not count.
   * @throws DISPOSED; rejects with the first error of the enqueued work since the last wait.
   */
  async stats(): Promise<OffloadStats> {
    const { handle, description } = this.#layer;
    const stats = await handle.offloadStats();
    const { first } = description.bank;
    return { ...stats, resident: stats.resident.map((expert) => expert + first) };
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const { device, description, disposed } = this.#layer;
    return `ExpertOffload of ${description.bank.count} experts on ${device.name}${disposed ? " (disposed)" : ""}`;
  }

  /** @internal Enqueues loads of the pinned experts, once all weights have been set. */
  loadPinned(): void {
    if (this.#pinned.length > 0) this.#layer.handle.prefetch(this.#pinned);
  }
}
