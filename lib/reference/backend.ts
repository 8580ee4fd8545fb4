import type {
  Backend,
  CancellationHandle,
  DeviceHandles,
  LayerDescription,
  OffloadRule,
  Warnings,
  WeightParts,
} from "../core/device/backend.js";
import { MoeError } from "../core/errors.js";
import type { TokenFormat } from "../core/formats/token_format.js";
import type { WeightFormatName } from "../core/formats/weight_format.js";
import type { Activation, Clamp } from "../core/layer/activation.js";
import type { Field, Fields } from "../core/operators/field.js";
import { type OperatorName, type Operators, type OperatorTable, operators } from "../core/operators/table.js";
import type { DType } from "../core/tensors/dtype.js";
import type { Shape } from "../core/tensors/shape.js";
import { Stream } from "./core/stream.js";
import { ReferenceTensor } from "./core/tensor.js";
import { ReferencePackedExperts } from "./experts/packed_experts.js";
import { noOffload, ReferenceLayer } from "./layer/layer_handle.js";
import { implementations } from "./operators.js";

type BoundOperators = Operators<OperatorTable, DeviceHandles>;

/**
 * The `reference` device: every operator by its formula, in float64 and plain loops. Work is done at the call; outputs
 * are rounded to their dtype, and errors found in the data wait for the next wait as on every device.
 */
export function openReference({ poison = false }: { readonly poison?: boolean }): Backend {
  const stream = new Stream();
  const bound = Object.entries(implementations).map(([name, run]) => {
    // A device gets only handles of its own. The operators' types say so, those of `Backend` do not.
    const implementation = run as (operands: object, stream: Stream) => void;
    const outputs = outputNames(name as OperatorName);
    return [name, (operands: object) => writesAny(operands, outputs) && implementation(operands, stream)];
  });
  return Object.assign(new ReferenceDevice(stream, poison), Object.fromEntries(bound) as BoundOperators);
}

function outputNames(name: OperatorName): string[] {
  // Operators may come from outside.
  const fields: Fields = operators[name] ?? {};
  return Object.keys(fields).filter((field) =>
    ["output", "optional_output", "updated"].includes((fields[field] as Field).kind),
  );
}

/** Whether any output has an element. Without one there is nothing to do, though sizes may be more than a loop can count. */
function writesAny(operands: object, outputs: readonly string[]): boolean {
  const tensors = outputs.map(
    (name) => (operands as Readonly<Record<string, ReferenceTensor | null | undefined>>)[name],
  );
  return tensors.length === 0 || tensors.some((tensor) => tensor && tensor.byteLength > 0);
}

/** All of the device but its operators. */
class ReferenceDevice implements Omit<Backend, keyof BoundOperators> {
  readonly kind = "reference";
  readonly description = "pure TypeScript, float64 inside; the definition of every operator";
  readonly #stream: Stream;
  readonly #poison: boolean;

  constructor(stream: Stream, poison: boolean) {
    this.#stream = stream;
    this.#poison = poison;
  }

  empty(dtype: DType, shape: Shape): ReferenceTensor {
    const tensor = ReferenceTensor.allocate(this.#stream, dtype, shape);
    if (this.#poison) poison(tensor.map());
    return tensor;
  }

  wrap(bytes: Uint8Array, dtype: DType, shape: Shape): ReferenceTensor {
    return ReferenceTensor.over(this.#stream, dtype, shape, bytes);
  }

  wrapPointer(): never {
    throw new MoeError("UNSUPPORTED_OPERATION", "wrapPointer: expected a native device, got reference");
  }

  async synchronize(): Promise<void> {
    this.#stream.wait();
  }

  synchronizeSync(): void {
    this.#stream.wait();
  }

  async submitted(): Promise<void> {
    this.#stream.wait();
  }

  warnings(): Warnings {
    return { nonFiniteLogitRows: this.#stream.nonFiniteLogitRows };
  }

  cancellation(): CancellationHandle {
    return { cancel: () => {}, pending: () => false };
  }

  /** Work is done when it is called. */
  cancelWith(): void {}

  busySeconds(): null {
    return null;
  }

  async close(): Promise<void> {
    this.#stream.wait();
  }

  dispose(): void {}

  packedExperts(
    numExperts: number,
    rows: number,
    columns: number,
    format: WeightFormatName,
    activation: Activation,
    clamp: Clamp,
    tokenFormat: TokenFormat,
  ): ReferencePackedExperts {
    const shape = [numExperts, rows, columns] as const;
    return new ReferencePackedExperts(this.#stream, shape, format, activation, clamp, tokenFormat);
  }

  layer(description: LayerDescription, _stored?: WeightParts, offload?: OffloadRule): ReferenceLayer {
    if (offload !== undefined) throw noOffload();
    return new ReferenceLayer(this.#stream, description);
  }

  offloadBudget(): never {
    throw noOffload();
  }

  weightLayout(): string {
    return "";
  }

  mapFile(): never {
    throw new MoeError("UNSUPPORTED_OPERATION", "mapFile: reference computes with weights in JavaScript's memory only");
  }
}

/** Fills memory that nobody has written yet as native/core/poison.h does. */
function poison(bytes: Uint8Array): void {
  for (let index = 0; index < bytes.length; index++) bytes[index] = index % 2 === 0 ? 0xff : 0x7f;
}
