import type { Device } from "../../core/device/device.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { openDevice } from "../../devices.js";
import type { MoeLayerOptions } from "../../layer/create.js";
import { MoeLayer } from "../../moe_layer.js";
import { dequantize } from "../../operators/formats/dequantize.js";
import { Random } from "../../testing/inputs/random.js";
import { disturbance, trials } from "../../testing/inputs/steady_tokens.js";
import { isTestArray, mapArrays, upload, uploadQuantized, withTensors } from "../../testing/subject/arrays.js";
import type { SubjectInputs, TestArray } from "../../testing/subject/subject.js";
import { pickRows, rowsOf } from "./rows.js";

/** Ids and weights [T, k]. */
export interface ExactRouting {
  readonly ids: Int32Array;
  readonly weights: Float64Array;
  readonly columns: number;
}

/** The routing of tokens as they are, and those after small changes. */
export type Routings = readonly [ExactRouting, ...ExactRouting[]];

/** The routing of some tokens. */
export function someTokens({ ids, weights, columns }: ExactRouting, rows: readonly number[]): ExactRouting {
  return {
    ids: pickRows(ids, rows, columns) as Int32Array,
    weights: pickRows(weights, rows, columns) as Float64Array,
    columns,
  };
}

/**
 * The layer of a subject's problem, on `reference` in float64. There a layer of full size would not fit in memory, so one expert
 * is there at a time: each is a bank of its own, whose outputs add up to the layer's.
 */
export class ExactLayer implements Disposable {
  readonly #device: Device = openDevice("reference", { poison: true });
  readonly #inputs: SubjectInputs;

  constructor(inputs: SubjectInputs) {
    this.#inputs = inputs;
  }

  /** The routing of tokens [T, H]. */
  routings(tokens: TestArray): Routings {
    const random = new Random("routings");
    using x = upload(this.#device, tokens, true) as Tensor<"f64">;
    using layer = this.#bank(0);
    const values = x.dataSync() as unknown as Float64Array;
    const changed = Array.from({ length: trials }, () => {
      const near = values.map((value) => value * (1 + (random.uniform() < 0.5 ? -disturbance : disturbance)));
      using moved = this.#device.tensor(near, tokens.shape, "f64");
      return routingOf(layer, moved);
    });
    return [routingOf(layer, x), ...changed];
  }

  /** The outputs [T * H] of tokens [T, H] that are routed so. */
  forward(tokens: TestArray, { ids, weights, columns }: ExactRouting): Float64Array {
    const shape = [tokens.shape[0] as number, columns];
    using x = upload(this.#device, tokens, true) as Tensor<"f64">;
    using idTensor = this.#device.tensor(ids, shape);
    using weightTensor = this.#device.tensor(weights, shape, "f64") as Tensor as Tensor<"f32">;
    const routing = { ids: idTensor, weights: weightTensor };
    const sum = new Float64Array(x.size);
    for (const expert of new Set(ids)) {
      if (expert < 0) continue;
      using layer = this.#bank(expert);
      using share = layer.forward(x, { routing });
      share.dataSync().forEach((value, index) => {
        sum[index] = (sum[index] as number) + value;
      });
    }
    return sum;
  }

  /** The layer with one of its experts. */
  #bank(expert: number): MoeLayer {
    const { experts, ...others } = this.#inputs.weights as { experts: Record<string, SubjectInputs> };
    const made: Tensor[] = [];
    const keep = (tensor: Tensor): void => void made.push(tensor);
    const matrix = (stacked: SubjectInputs): unknown => {
      const own = mapArrays(stacked, (array) => rowsOf(array, [expert]));
      if (isTestArray(own)) return withTensors(this.#device, own, keep, true);
      const values = dequantize(uploadQuantized(this.#device, own, keep), { dtype: "f64" });
      keep(values);
      return values;
    };
    try {
      return MoeLayer.create({
        ...this.#inputs.config,
        ...(withTensors(this.#device, others, keep, true) as object),
        dtype: "f64",
        experts: Object.fromEntries(Object.entries(experts).map(([role, stacked]) => [role, matrix(stacked)])),
        bank: { first: expert, count: 1 },
        device: this.#device,
      } as unknown as MoeLayerOptions);
    } finally {
      for (const tensor of made) tensor.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.#device[Symbol.dispose]();
  }
}

function routingOf(layer: MoeLayer, x: Tensor<"f64">): ExactRouting {
  const { ids, weights } = layer.route(x);
  const columns = ids.shape[1] as number;
  const routing = { ids: ids.dataSync(), weights: weights.dataSync() as ArrayLike<number> as Float64Array, columns };
  ids.dispose();
  weights.dispose();
  return routing;
}
