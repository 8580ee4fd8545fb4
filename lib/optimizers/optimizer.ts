import { inspect } from "node:util";
import type { Device } from "../core/device/device.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { describe, invalidArgument, MoeError, unexpected } from "../core/errors.js";
import { attempt, typedArray } from "../core/input/foreign.js";
import {
  type Fields,
  finite,
  integer,
  nonNegative,
  object,
  optional,
  positiveOrInfinite,
  unchecked,
} from "../core/input/options.js";
import { allOrNone } from "../core/tensors/all_or_none.js";
import { shapeSize, shapeText } from "../core/tensors/shape.js";
import { Tensor } from "../core/tensors/tensor.js";
import type { TensorHandle } from "../core/tensors/tensor_handle.js";
import { isUnwritten } from "../core/tensors/unwritten.js";
import { checkTensor } from "../operators/check.js";
import { squaredNorm } from "./gradient_norm.js";
import { listed } from "./listed.js";
import type { Parameter } from "./parameter.js";

/** Options of all optimisers. */
export interface OptimizerOptions {
  /** The factor of a step; can be changed between steps. */
  learningRate: number;
  /** Default 0. A parameter may have its own. */
  weightDecay?: number | undefined;
  /** Scales the gradients of a step down if the norm of all of them is larger; Infinity only measures it. Default neither. */
  maxNorm?: number | undefined;
}

export const optimizerFields = {
  learningRate: nonNegative,
  weightDecay: optional(nonNegative, 0),
  maxNorm: optional(positiveOrInfinite),
} satisfies Fields<OptimizerOptions>;

/** The handles of one parameter in one step, flat. */
export interface StepHandles {
  readonly parameter: TensorHandle;
  readonly gradient: TensorHandle;
  readonly squaredNorm: TensorHandle | undefined;
  readonly copy: TensorHandle | undefined;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxNorm: number;
  /** Those that the optimiser keeps for this parameter, by name. */
  readonly kept: Readonly<Record<string, TensorHandle>>;
}

/** Enqueues step number `step` of one parameter, counted from 1 over the steps in which it had a gradient. */
export type EnqueueStep = (device: Device, handles: StepHandles, step: number) => void;

/** What an optimiser has to be loaded from, and what it is saved as: tensors named `<parameter>.<kept tensor>`. */
export interface OptimizerState {
  /** Steps done so far. */
  readonly steps: number;
  /** What is kept for each parameter. */
  readonly tensors: Readonly<Record<string, Tensor<"f32">>>;
}

/** A kind of optimiser, and what it keeps for each parameter. */
export interface Kept {
  /** The name of its class. */
  readonly kind: string;
  /** Tensors of the parameter's shape, which begin as zeros. */
  readonly names: readonly string[];
  /** Whether its steps depend on how many the parameter has had. */
  readonly counted: boolean;
}

/** A parameter as an optimiser has read it. */
interface Owned extends Pick<Parameter, "name" | "value"> {
  readonly source: Parameter;
  readonly copy: Parameter["copy"] | undefined;
  readonly changed: Parameter["changed"] | undefined;
  readonly weightDecay: number;
  readonly learningRateFactor: number;
  /** The number of steps in which it had a gradient. */
  steps: number;
}

/** Steps over parameters of one device. Every step is enqueued: one pass over memory for each parameter. */
export class Optimizer extends ThreadBound implements Disposable {
  /** Multiplies the next steps. */
  learningRate: number;
  readonly #maxNorm: number | undefined;
  readonly #parameters: readonly Owned[];
  readonly #device: Device;
  #kept: ReadonlyMap<string, Tensor<"f32">>;
  readonly #keeps: Kept;
  readonly #enqueue: EnqueueStep;
  #steps = 0;

  /** @internal Use {@link AdamW} or {@link SGD}. */
  constructor(
    parameters: Iterable<Parameter>,
    { learningRate, weightDecay, maxNorm }: { learningRate: number; weightDecay: number; maxNorm: number | undefined },
    keeps: Kept,
    enqueue: EnqueueStep,
  ) {
    super();
    this.#enqueue = enqueue;
    this.learningRate = learningRate;
    this.#maxNorm = maxNorm;
    const names = new Set<string>();
    // Each field is read once, so that what is checked is what is used.
    this.#parameters = listed<Parameter>("parameters", parameters).map((source, index) => {
      const place = `parameters[${index}]`;
      const { name, value, copy, changed, ...rates } = readParameter(source, place, weightDecay);
      if (typeof name !== "string") throw invalidArgument(`${place}.name`, "a string", name);
      if (names.has(name)) throw unexpected(`${place}.name`, "a name that no other parameter has", renamed(name));
      names.add(name);
      checkTensor(`${place}.value`, value, "float32", "any");
      if (copy !== undefined) checkTensor(`${place}.copy`, copy, "float", value.shape, value.device);
      return { source, name, value, copy, changed, ...rates, steps: 0 };
    });
    const [first] = this.#parameters;
    if (first === undefined) throw unexpected("parameters", "at least one parameter", "none");
    for (const { name, value } of this.#parameters) {
      checkTensor(`the value of ${name}`, value, [first.value.dtype], value.shape, first.value.device);
    }
    this.#device = first.value.device;
    this.#keeps = keeps;
    const places = this.#parameters.flatMap(({ name, value }) =>
      keeps.names.map((kept) => [`${name}.${kept}`, value] as const),
    );
    const zeros = allOrNone(places, ([, value]) => this.#device.zeros(value.shape, value.dtype));
    this.#kept = new Map(places.map(([name], index) => [name, zeros[index] as Tensor<"f32">]));
  }

  /** The device of all parameters. */
  get device(): Device {
    return this.#device;
  }

  /** Steps done so far. */
  get steps(): number {
    return this.#steps;
  }

  /** Bytes of what is kept for the parameters. */
  get byteLength(): number {
    return [...this.#kept.values()].reduce((total, { byteLength }) => total + byteLength, 0);
  }

  /**
   * Changes the parameters by their gradients.
   * @returns with `maxNorm`, the square of the norm of the gradients before they were clipped, [1] f32; else undefined.
   * @throws INVALID_ARGUMENT if no parameter has a gradient or `learningRate` is not a number >= 0; SHAPE_MISMATCH,
   * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
   */
  step(): Tensor<"f32"> | undefined {
    const learningRate = nonNegative(this.learningRate, "learningRate");
    const given = this.#parameters
      .map((parameter) => ({ parameter, gradient: attempt(parameter.name, () => parameter.source.gradient) }))
      .filter(({ gradient }) => gradient !== undefined && !(gradient instanceof Tensor && isUnwritten(gradient)));
    if (given.length === 0) throw unexpected("step", "a parameter with a gradient; call backward first", "none");
    const gradients = given.map(({ parameter: { name, value }, gradient }) =>
      checkTensor(`the gradient of ${name}`, gradient, [value.dtype], value.shape, this.#device),
    ) as Tensor<"f32">[];
    const norm = this.#maxNorm === undefined ? undefined : squaredNorm(gradients);
    // All handles come first: if a parameter was disposed of, the step fails before it changes any other.
    const handles = given.map(({ parameter }, index) => {
      return this.#handlesOf(parameter, gradients[index] as Tensor, norm, learningRate);
    });
    this.#steps++;
    for (const [index, each] of handles.entries()) {
      this.#enqueue(this.#device, each, ++(given[index] as (typeof given)[number]).parameter.steps);
      for (const handle of [each.parameter, each.gradient, each.copy, ...Object.values(each.kept)]) handle?.free();
    }
    for (const changed of new Set(given.map(({ parameter }) => parameter.changed))) changed?.();
    return norm;
  }

  #handlesOf(
    { name, value, copy, weightDecay, learningRateFactor }: Owned,
    gradient: Tensor,
    norm: Tensor | undefined,
    learningRate: number,
  ): StepHandles {
    const flat = (tensor: Tensor) => tensor.handle.view([tensor.size], 0);
    const kept = this.#keeps.names.map((each) => [each, flat(this.#kept.get(`${name}.${each}`) as Tensor)] as const);
    return {
      parameter: flat(value),
      gradient: flat(gradient),
      squaredNorm: this.#maxNorm === Number.POSITIVE_INFINITY ? undefined : norm?.handle,
      copy: copy && flat(copy),
      learningRate: nonNegative(learningRate * learningRateFactor, `the learning rate of ${name}`),
      weightDecay,
      maxNorm: this.#maxNorm ?? 0,
      kept: Object.fromEntries(kept),
    };
  }

  /**
   * What {@link load} takes: views of the tensors that are kept, in memory that later steps change. {@link AdamW} adds
   * `<parameter>.steps` [1], in how many steps the parameter had a gradient.
   * @throws DISPOSED, OUT_OF_MEMORY.
   */
  state(): OptimizerState {
    const views = [...this.#kept].map(([name, tensor]) => [name, tensor.reshape(tensor.shape)] as const);
    const counted = this.#keeps.counted ? this.#parameters : [];
    const counts = counted.map(({ name, value, steps }) => {
      return [`${name}.steps`, this.#device.tensor([steps], [1], value.dtype)] as const;
    });
    return { steps: this.#steps, tensors: Object.fromEntries([...views, ...counts]) };
  }

  /**
   * Goes on from a state, with the same bits as if there had been no break. Blocks until the work that computes the state's
   * tensors is done. If it fails, the optimiser is as before.
   * @param state of the same optimiser over parameters of the same names and shapes; its tensors are copied, to new memory:
   * views that an earlier `state()` gave keep their values. They may be typed arrays, as `SafetensorsFile` reads them. A
   * parameter without `<parameter>.steps` has had all the steps.
   * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, OUT_OF_MEMORY, DISPOSED.
   */
  load(state: {
    readonly steps: number;
    readonly tensors: Readonly<Record<string, Tensor<"f32"> | Float32Array>>;
  }): void {
    const { steps, tensors } = readState(state, "state");
    // Refuses an optimiser that was disposed of.
    for (const kept of this.#kept.values()) void kept.handle;
    const given = [...this.#kept].map(([name, kept]) => ({ name, kept, values: stateValues(tensors, name, kept) }));
    const counts = this.#parameters.map(({ name, value }) => {
      const isThere = this.#keeps.counted && stateTensor(tensors, `${name}.steps`) !== undefined;
      return isThere ? stepsOf(stateValues(tensors, `${name}.steps`, { dtype: value.dtype, shape: [1] }), name) : steps;
    });
    const loaded = allOrNone(given, ({ kept, values }) => this.#device.tensor(values, kept.shape, kept.dtype));
    this.dispose();
    this.#kept = new Map(given.map(({ name }, index) => [name, loaded[index] as Tensor<"f32">]));
    for (const [index, parameter] of this.#parameters.entries()) parameter.steps = counts[index] as number;
    this.#steps = steps;
  }

  /** Frees what is kept for the parameters, not the parameters. Idempotent. */
  dispose(): void {
    for (const tensor of this.#kept.values()) tensor.dispose();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const state =
      this.#device.disposed || [...this.#kept.values()].some(({ disposed }) => disposed) ? " (disposed)" : "";
    const counts = `parameters: ${this.#parameters.length}, steps: ${this.#steps}`;
    return `${this.#keeps.kind} with ${counts}, learning rate: ${describe(this.learningRate)}, on ${this.#device.name}${state}`;
  }
}

const readState = object(
  { steps: integer(0), tensors: unchecked } satisfies Fields<OptimizerState>,
  "optimizer.state()",
);

function stateTensor(tensors: unknown, name: string): unknown {
  return attempt(`state.tensors.${name}`, () => (tensors as Record<string, unknown>)[name]);
}

/** The values of a state's tensor, which must be like `expected`. */
function stateValues(tensors: unknown, name: string, { dtype, shape }: Pick<Tensor, "dtype" | "shape">) {
  const place = `state.tensors.${name}`;
  const values = stateTensor(tensors, name);
  if (values instanceof Tensor) {
    checkTensor(place, values, [dtype], shape);
    return values.dataSync();
  }
  const array = typedArray(place, values, ["Float32Array"], "a Tensor or a Float32Array");
  const size = shapeSize(shape);
  if (array.length === size) return array;
  throw new MoeError(
    "SHAPE_MISMATCH",
    `${place}: expected ${size} elements, as in ${shapeText(shape)}, got ${array.length}`,
  );
}

/** A name that is there twice, and what to do about it. */
function renamed(name: string): string {
  return `${describe(name)} twice; give those of several layers other names, as in { ...parameter, name: \`1.\${parameter.name}\` }`;
}

/** A number of steps, as a state has it. */
function stepsOf(values: ArrayLike<number | bigint>, name: string): number {
  return integer(0)(values[0], `state.tensors.${name}.steps`);
}

function readParameter(source: unknown, place: string, weightDecay: number): Omit<Owned, "source" | "steps"> {
  if (typeof source !== "object" || source === null) {
    throw invalidArgument(place, "a parameter such as { name, value, gradient }", source);
  }
  const given = attempt(place, () => {
    const { name, value, copy, changed, weightDecay, learningRateFactor } = source as Parameter;
    return { name, value, copy, changed, weightDecay, learningRateFactor };
  });
  if (given.changed !== undefined && typeof given.changed !== "function") {
    throw invalidArgument(`${place}.changed`, "a function", given.changed);
  }
  return {
    ...given,
    weightDecay: optional(nonNegative, weightDecay)(given.weightDecay, `${place}.weightDecay`),
    learningRateFactor: optional(nonNegative, 1)(given.learningRateFactor, `${place}.learningRateFactor`),
  };
}

export const fraction = (value: unknown, name: string): number => {
  const given = finite(value, name);
  if (given < 0 || given >= 1) throw invalidArgument(name, "a number from 0 to less than 1", given);
  return given;
};
