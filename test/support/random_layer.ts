import fc from "fast-check";
import { isGated } from "../../lib/backend.js";
import { Random } from "../../lib/cases/random.js";
import type { Device } from "../../lib/device.js";
import type { FloatDType } from "../../lib/dtype.js";
import type { MoeLayerConfig } from "../../lib/layer/config.js";
import { MoeLayer } from "../../lib/layer/layer.js";
import type { Tensor } from "../../lib/tensor.js";

/** The sizes and formula of a layer, and what its weights and tokens are drawn from. */
export interface LayerProblem {
  readonly config: MoeLayerConfig & Required<Pick<MoeLayerConfig, "activation">>;
  readonly tokens: number;
  readonly dtype: FloatDType;
  readonly seed: number;
}

/** An odd-sized layer for tests of one fixed problem. */
export const exampleConfig: LayerProblem["config"] = {
  hiddenSize: 33,
  intermediateSize: 17,
  numExperts: 6,
  topK: 2,
  scoring: "softmax",
  normalize: true,
  scale: 1,
  activation: "swiglu",
};

/** Layers of any shape, small enough for `reference`. */
export const anyLayer: fc.Arbitrary<LayerProblem> = fc.integer({ min: 1, max: 12 }).chain((numExperts) =>
  fc.record({
    config: fc.record({
      hiddenSize: fc.integer({ min: 1, max: 70 }),
      intermediateSize: fc.integer({ min: 1, max: 40 }),
      numExperts: fc.constant(numExperts),
      topK: fc.integer({ min: 1, max: numExperts }),
      scoring: fc.constantFrom("softmax" as const, "softmax_selected" as const),
      normalize: fc.boolean(),
      scale: fc.constantFrom(1, 2.5),
      activation: fc.constantFrom("relu" as const, "gelu" as const, "swiglu" as const, "geglu_tanh" as const),
    }),
    tokens: fc.integer({ min: 1, max: 20 }),
    dtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
    seed: fc.integer({ min: 0 }),
  }),
);

/** The tensors of a problem on a device. */
export class RandomLayer implements Disposable {
  readonly layer: MoeLayer;
  readonly x: Tensor<FloatDType>;
  readonly router: Tensor<FloatDType>;
  /** [E, N, H], gate rows before up rows where gated. */
  readonly gateUp: Tensor<FloatDType>;
  /** [E, H, I] */
  readonly down: Tensor<FloatDType>;

  constructor(device: Device, { config, tokens, dtype, seed }: LayerProblem) {
    const { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, activation } = config;
    const random = new Random(seed);
    const normals = (shape: number[], deviation: number) =>
      device.tensor(
        random.normals(
          shape.reduce((a, b) => a * b),
          deviation,
        ),
        shape,
        dtype,
      );
    const gated = isGated(activation);
    this.x = normals([tokens, hidden], 1);
    this.router = normals([experts, hidden], hidden ** -0.5);
    this.gateUp = normals([experts, gated ? 2 * inner : inner, hidden], hidden ** -0.5);
    this.down = normals([experts, hidden, inner], inner ** -0.5);
    const expertWeights = Array.from({ length: experts }, (_, expert) => {
      const first = this.gateUp.rows(expert, expert + 1).reshape([this.gateUp.shape[1] as number, hidden]);
      const down = this.down.rows(expert, expert + 1).reshape([hidden, inner]);
      if (!gated) return { up: first, down };
      return { gate: first.rows(0, inner), up: first.rows(inner, 2 * inner), down };
    });
    this.layer = MoeLayer.create({ ...config, device, dtype, router: this.router, experts: expertWeights });
  }

  [Symbol.dispose](): void {
    for (const resource of [this.layer, this.x, this.router, this.gateUp, this.down]) resource.dispose();
  }
}
