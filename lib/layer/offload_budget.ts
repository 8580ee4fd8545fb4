import { inspect } from "node:util";
import {
  type OffloadBudgetHandle,
  type OffloadBudgetStats,
  type OffloadPolicy,
  offloadPolicies,
} from "../core/device/backend.js";
import { type Device, openedDevice } from "../core/device/device.js";
import { checkOwnClass } from "../core/device/own_class.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { invalidArgument, MoeError, unexpected } from "../core/errors.js";
import { choice, type Fields, integer, object, optional, type Read, type Reader } from "../core/input/options.js";

/** How much room layers share. */
export interface OffloadBudgetOptions {
  /** How many experts of all layers are resident at a time. Either this or `bytes`. */
  slots?: number | undefined;
  /** As many experts as fit into this many bytes, in the device's packed layout; at least one must fit. */
  bytes?: number | undefined;
  /** Which resident expert makes room, of whatever layer; see {@link OffloadOptions}. Default `lfru`. */
  policy?: OffloadPolicy | undefined;
}

/** How many experts are resident, and which make room: options of a budget, or of a layer with one of its own. */
export const budgetFields = {
  slots: optional(integer(1)),
  bytes: optional(integer(1)),
  policy: optional(choice(offloadPolicies)),
} satisfies Fields<OffloadBudgetOptions>;
const budgetOptions = object(budgetFields, "{ bytes: 8 * 2 ** 30 }");

/** @param name what errors call the object. @param choices what they say there must be one of. */
export function budgetRule(
  { slots, bytes, policy }: Read<typeof budgetOptions>,
  name: string,
  choices = "slots or bytes",
) {
  if ((slots === undefined) === (bytes === undefined)) {
    throw unexpected(name, `either ${choices}`, slots === undefined ? "none" : "slots and bytes");
  }
  return { slots: slots ?? 0, bytes: bytes ?? 0, policy: policy ?? "lfru" };
}

/**
 * Room for experts of several layers of a device: the policy decides which experts of which layer are resident. The layers'
 * experts must have equal sizes. Slots are given to a layer when it is made (`offload: { budget }`) and back to the others
 * when it is disposed of.
 *
 *     using budget = new OffloadBudget(device, { bytes: 8 * 2 ** 30 });
 *     const options = { device, cache: true, offload: { budget } };
 *     const layers = await Promise.all(indices.map((layer) => MoeLayer.load(model, { layer, ...options })));
 */
export class OffloadBudget extends ThreadBound implements Disposable {
  readonly #device: Device;
  #handle: OffloadBudgetHandle | undefined;

  /** @throws INVALID_ARGUMENT, DISPOSED; UNSUPPORTED_OPERATION on `reference`, which has all experts in memory. */
  constructor(device: Device, options: OffloadBudgetOptions) {
    super();
    checkOwnClass(new.target, OffloadBudget);
    this.#device = openedDevice(device, "device");
    this.#handle = device.backend.offloadBudget(budgetRule(budgetOptions(options, "options"), "options"));
    Object.freeze(this);
  }

  /** True only for real budgets. */
  static override [Symbol.hasInstance](value: unknown): value is OffloadBudget {
    return typeof value === "object" && value !== null && #handle in value;
  }

  /** The device of all its layers. */
  get device(): Device {
    return this.#device;
  }

  /** Bytes of all slots on the device; 0 while no layer shares them. */
  get byteLength(): number {
    return this.handle.byteLength;
  }

  /**
   * What the layers did so far, once the work enqueued so far is done. Replays of captures do not count.
   * @throws DISPOSED; rejects with the first error of the enqueued work since the last wait.
   */
  async stats(): Promise<OffloadBudgetStats> {
    return await this.handle.stats();
  }

  /** @internal @throws DISPOSED. */
  get handle(): OffloadBudgetHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "offload budget: used after dispose()");
    void this.#device.backend;
    return this.#handle;
  }

  /** Takes no more layers. Those that share it keep it until they are disposed of. Idempotent. */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const state = this.#handle === undefined || this.#device.disposed ? " (disposed)" : "";
    return `OffloadBudget on ${this.#device.name}${state}`;
  }
}

export const givenBudget: Reader<OffloadBudget> = (value, name) => {
  if (value instanceof OffloadBudget) return value;
  throw invalidArgument(name, "an OffloadBudget", value);
};
