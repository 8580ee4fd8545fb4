import fc from "fast-check";
import type { Device } from "../../lib/core/device/device.js";
import { type Activation, activations, isClamped } from "../../lib/core/layer/activation.js";
import { groupScores, type Scoring, scorings } from "../../lib/core/layer/routing_rule.js";
import { sharedGates } from "../../lib/core/layer/shared_gate.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { createLayer, type MoeLayerOptions } from "../../lib/layer/create.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import type { LayerParts } from "../../lib/layer/layer_parts.js";
import type { ExpertWeights } from "../../lib/layer/weights/expert_weights.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import type { GatingRuleOptions, Normalize } from "../../lib/operators/routing/gating_options.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomRouted, randomShared } from "../../lib/testing/inputs/random_expert.js";

/** The sizes and formula of a layer, and the seed of its weights and tokens. */
export interface LayerProblem {
  readonly config: MoeLayerConfig & { readonly activation: Activation };
  readonly tokens: number;
  readonly dtype: FloatDType;
  readonly seed: number;
  readonly biases?: boolean;
  readonly selectionBias?: boolean;
  /** Weights and tokens without their signs. */
  readonly magnitudes?: boolean;
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

/** Layers of any shape, small enough for `reference`, that can be composed of single operators. */
export const anyPlainLayer: fc.Arbitrary<LayerProblem> = fc.integer({ min: 1, max: 12 }).chain((numExperts) =>
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

const anyNormalize: fc.Arbitrary<boolean | Normalize> = fc.oneof(
  fc.boolean(),
  fc.record({ by: fc.constantFrom("sum_plus_epsilon" as const, "clamped_sum" as const), epsilon: fc.constant(1e-3) }),
  fc.record({ by: fc.constant("lp" as const), power: fc.constantFrom(1, 2, 3) }),
);

/** Any routing rule for 1 .. 4 * mostInGroup experts, with the number of experts. */
export const anyRouting = (mostInGroup: number) =>
  fc
    .record({
      numGroups: fc.integer({ min: 1, max: 4 }),
      groupSize: fc.integer({ min: 1, max: mostInGroup }),
      topGroups: fc.integer({ min: 1, max: 4 }),
      topK: fc.integer({ min: 1, max: 4 * mostInGroup }),
      score: fc.constantFrom(...groupScores),
      scoring: fc.constantFrom(...scorings),
      byLogit: fc.boolean(),
      normalize: anyNormalize,
      scale: fc.constantFrom(1, 2.5),
    })
    .map(({ numGroups, groupSize, ...drawn }): GatingRuleOptions & { numExperts: number; scoring: Scoring } => {
      const { scoring, normalize } = drawn;
      const numExperts = numGroups * groupSize;
      const grouped = numGroups > 1 && scoring !== "sparsemixer";
      const top = Math.min(drawn.topGroups, numGroups);
      const topK = Math.min(drawn.topK, grouped ? top * groupSize : numExperts);
      const scoreFits = { max: true, top2_sum: groupSize > 1, topk_sum: topK % top === 0 }[drawn.score];
      return {
        numExperts,
        topK,
        scoring,
        scale: drawn.scale,
        normalize: scoring !== "none" || (typeof normalize === "object" && normalize.by === "lp") ? normalize : false,
        ...(drawn.byLogit && { selectionKey: "logit" }),
        ...(grouped && { groups: { count: numGroups, top, score: scoreFits ? drawn.score : "max" } }),
      };
    });

/** Layers with any of the parts that a layer can have. */
export const anyLayer: fc.Arbitrary<LayerProblem> = fc
  .record({
    routing: anyRouting(3),
    formula: fc.record({
      hiddenSize: fc.integer({ min: 1, max: 70 }),
      intermediateSize: fc.integer({ min: 1, max: 40 }),
      activation: fc.constantFrom(...activations),
      multiplier: fc.boolean(),
      outputActivation: fc.constantFrom("none" as const, "none" as const, "softmax" as const),
      weightOn: fc.constantFrom("output" as const, "input" as const),
    }),
    shared: fc.option(
      fc.record({ intermediateSize: fc.integer({ min: 1, max: 100 }), gate: fc.constantFrom(...sharedGates) }),
    ),
    limit: fc.option(fc.constantFrom(0.5, Number.POSITIVE_INFINITY)),
    tokens: fc.integer({ min: 1, max: 20 }),
    dtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
    seed: fc.integer({ min: 0 }),
    biases: fc.boolean(),
    selectionBias: fc.boolean(),
  })
  .map(({ routing, formula, shared, limit, ...problem }): LayerProblem => {
    const gate = formula.weightOn === "input" ? "none" : shared?.gate;
    const clamp = limit !== null && isClamped(formula.activation) ? { limit } : undefined;
    const sharedExpert = shared && formula.outputActivation === "none" ? { ...shared, gate, clamp } : undefined;
    const selectionBias = problem.selectionBias && routing.scoring !== "sparsemixer";
    return { ...problem, selectionBias, config: { ...routing, ...formula, sharedExpert } as LayerProblem["config"] };
  });

/** The tensors of a problem on a device. */
export class RandomLayer implements Disposable {
  readonly layer: MoeLayer;
  /** The layer's parts. */
  readonly parts: LayerParts;
  /** The options that the layer was made from. */
  readonly options: MoeLayerOptions;
  readonly x: Tensor<FloatDType>;
  readonly router: Tensor<FloatDType>;
  /** Stacked. */
  readonly experts: ExpertWeights<Tensor<FloatDType>, Tensor<FloatDType>>;
  readonly #device: Device;
  readonly #drawn: Tensor<FloatDType>[] = [];

  constructor(device: Device, problem: LayerProblem) {
    const { config, tokens, dtype, seed, biases = false, selectionBias = false, magnitudes = false } = problem;
    const { hiddenSize, numExperts } = config;
    const random = new Random(seed);
    const draw = (shape: Shape, deviation: number) => {
      const values = random.normals(shapeSize(shape), deviation);
      const tensor = device.tensor(magnitudes ? values.map(Math.abs) : values, shape, dtype);
      this.#drawn.push(tensor);
      return tensor;
    };
    this.#device = device;
    this.x = draw([tokens, hiddenSize], 1);
    this.router = draw([numExperts, hiddenSize], hiddenSize ** -0.5);
    const { experts, ...latent } = randomRouted(draw, config, biases);
    this.experts = experts;
    this.options = {
      ...config,
      device,
      dtype,
      router: this.router,
      experts,
      ...latent,
      ...(biases && { routerBias: draw([numExperts], 0.1) }),
      ...(selectionBias && { selectionBias: draw([numExperts], 0.1) }),
      ...randomShared(draw, config, biases),
    };
    this.parts = createLayer(this.options);
    this.layer = new MoeLayer(this.parts);
  }

  /** A new tensor [E, N, H] with the weights of the first product: gate rows (if gated), then up rows. */
  gateUp(): Tensor<FloatDType> {
    const { gate, up } = this.experts;
    const [experts, rows, columns] = up.shape as [number, number, number];
    const halves = [gate, up].flatMap((tensor) => (tensor ? [tensor.dataSync()] : []));
    const values = new Float32Array(experts * halves.length * rows * columns);
    const size = rows * columns;
    halves.forEach((half, index) => {
      for (let expert = 0; expert < experts; expert++) {
        const rowsOfExpert = half.subarray(expert * size, (expert + 1) * size);
        values.set(rowsOfExpert, (expert * halves.length + index) * size);
      }
    });
    return this.#device.tensor(values, [experts, halves.length * rows, columns], up.dtype);
  }

  /** Disposes of the tensors that the layer was made from, but not of the tokens. */
  disposeWeights(): void {
    for (const tensor of this.#drawn) if (tensor !== this.x) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.layer.dispose();
    for (const tensor of this.#drawn) tensor.dispose();
  }
}
