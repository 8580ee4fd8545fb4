import { describe, expect, test } from "vitest";
import { type FloatDType, type GradLosses, openDevice, type Tensor } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { valuesOf } from "../../support/float64.js";
import { expectGradients } from "../../support/layer_gradients.js";
import { exampleConfig, type LayerProblem, RandomLayer } from "../../support/random_layer.js";

// Losses of the tokens of a mask, in the training of layers that drop choices: the losses are of what was chosen.

const reference = openDevice("reference");
const [tokens, experts, topK] = [12, exampleConfig.numExperts, exampleConfig.topK];
/** The last of three sequences is padding. */
const mask = [1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0];
const counts = (token: number) => mask[token] === 1;

interface Masked {
  readonly capacity: NonNullable<LayerProblem["config"]["capacity"]>;
  readonly loss: { scoring?: "sigmoid"; sequences?: number; choices?: "first"; normalization?: "tokens" };
}

const layers: readonly Masked[] = [
  { capacity: { tokens: 3 }, loss: {} },
  { capacity: { factor: 0.6, drop: "probability", renormalize: true }, loss: { scoring: "sigmoid" } },
  {
    capacity: { factor: 0.6, per: "sequence", renormalize: { by: "chosen", scale: 2 } },
    loss: { sequences: 3, normalization: "tokens" },
  },
  { capacity: { tokens: 2, drop: "prioritized" }, loss: { choices: "first" } },
];

const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);

/** The experts with the largest logits, before any choice is dropped. */
function chosen(logits: readonly number[]): number[] {
  return logits
    .map((_, expert) => expert)
    .sort((a, b) => (logits[b] as number) - (logits[a] as number))
    .slice(0, topK);
}

function scores(logits: readonly number[], scoring: "softmax" | "sigmoid"): number[] {
  const raw = logits.map((logit) => (scoring === "softmax" ? Math.exp(logit) : 1 / (1 + Math.exp(-logit))));
  return raw.map((value) => value / sum(raw));
}

/** E * Σₑ fₑ Pₑ of the tokens that count, the mean over the sequences in which any does. */
function plainBalanceLoss(rows: readonly number[][], loss: Masked["loss"]): number {
  const { scoring = "softmax", sequences = 1, choices, normalization } = loss;
  const counted = choices === "first" ? 1 : topK;
  const length = tokens / sequences;
  const losses = Array.from({ length: sequences }, (_, sequence) => {
    const own = rows.filter((_row, token) => Math.floor(token / length) === sequence && counts(token));
    if (own.length === 0) return undefined;
    const divisor = own.length * (normalization === "tokens" ? 1 : counted);
    const terms = Array.from({ length: experts }, (_expert, expert) => {
      const f = own.filter((row) => chosen(row).slice(0, counted).includes(expert)).length / divisor;
      return f * (sum(own.map((row) => scores(row, scoring)[expert] as number)) / own.length);
    });
    return experts * sum(terms);
  }).filter((one) => one !== undefined);
  return sum(losses) / losses.length;
}

/** The mean of (ln Σₑ exp(logitₑ))² over the tokens that count. */
function plainZLoss(rows: readonly number[][]): number {
  const own = rows.filter((_row, token) => counts(token));
  return sum(own.map((row) => Math.log(sum(row.map(Math.exp))) ** 2)) / own.length;
}

function plainLosses(routerLogits: Tensor, { loss }: Masked): { loadBalancingLoss: number; zLoss: number } {
  const logits = valuesOf(routerLogits);
  const rows = mask.map((_, token) => [...logits.subarray(token * experts, (token + 1) * experts)]);
  return { loadBalancingLoss: plainBalanceLoss(rows, loss), zLoss: plainZLoss(rows) };
}

const problemOf = ({ capacity }: Masked, dtype: string): LayerProblem => ({
  config: { ...exampleConfig, hiddenSize: 12, intermediateSize: 7, capacity },
  tokens,
  dtype: dtype as FloatDType,
  seed: 11,
});

/** The tokens of a layer, as sequences where the capacity is of one. */
const inSequences = ({ capacity }: Masked, x: Tensor<FloatDType>) =>
  (capacity.per === "sequence" ? x.reshape([3, tokens / 3, x.shape[1] as number]) : x) as Tensor<"f32">;

test.each(layers)("the gradients of %o are the derivatives", (masked) => {
  using made = new RandomLayer(reference, problemOf(masked, "f64"));
  const { layer } = made;
  const x = inSequences(masked, made.x);
  const kept = layer.route(x).ids.dataSync();
  const dropped = (token: number) => kept.subarray(token * topK, (token + 1) * topK).includes(-1);
  for (const masks of [true, false]) {
    expect(mask.some((_, token) => dropped(token) && counts(token) === masks)).toBe(true);
  }
  const extraLoss = () => {
    const { loadBalancingLoss, zLoss } = plainLosses(layer.routerLogits(x), masked);
    return 0.3 * loadBalancingLoss + 0.2 * zLoss;
  };
  const tokenMask = reference.tensor(Uint8Array.from(mask));
  const gradLosses = {
    loadBalancingLoss: { ...masked.loss, tokenMask, factor: 0.3 },
    zLoss: { tokenMask, factor: 0.2 },
  };
  expectGradients(layer, x, new Random(4), { gradLosses, extraLoss });
});

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  test.each(layers)("the gradients of %o are those of float64", (masked) => {
    const run = (on: typeof reference, dtype: string) => {
      using made = new RandomLayer(on, problemOf(masked, dtype));
      const x = inSequences(masked, made.x);
      const tokenMask = on.tensor(Uint8Array.from(mask));
      const gradLosses: GradLosses = {
        loadBalancingLoss: { ...masked.loss, tokenMask, factor: 30 },
        zLoss: { tokenMask, factor: 20 },
      };
      const { state } = made.layer.forward(x, { save: true });
      const { dx, gradients } = made.layer.backward(state, x, { gradLosses });
      return [dx, gradients.router as Tensor].map(valuesOf);
    };
    const [expected, found] = [run(reference, "f64"), run(device(), "f32")];
    found.forEach((values, index) => {
      expect(relativeError(values, expected[index] as Float64Array)).toBeLessThan(1e-5);
    });
  });

  test.each(layers)("the losses of %o are returned", (masked) => {
    using made = new RandomLayer(device(), problemOf(masked, "f32"));
    const x = inSequences(masked, made.x);
    const expected = plainLosses(made.layer.routerLogits(x), masked);
    const tokenMask = device().tensor(Uint8Array.from(mask));
    const lossesOf = (gradLosses?: GradLosses) => {
      const { state } = made.layer.forward(x, { save: true });
      return made.layer.backward(state, x, { gradLosses }).losses;
    };
    const balance = { ...masked.loss, tokenMask, factor: 30 };
    const both = lossesOf({ loadBalancingLoss: balance, zLoss: { tokenMask, factor: 20 } });
    expect(both?.loadBalancingLoss?.dataSync()[0]).toBeCloseTo(expected.loadBalancingLoss, 5);
    expect(both?.zLoss?.dataSync()[0]).toBeCloseTo(expected.zLoss, 5);
    const one = lossesOf({ loadBalancingLoss: balance });
    expect(one?.loadBalancingLoss?.dataSync()[0]).toBeCloseTo(expected.loadBalancingLoss, 5);
    expect(one?.zLoss).toBeUndefined();
    expect(lossesOf()).toBeUndefined();
  });

  test("losses that do not fit the tokens are refused before anything is used up or written", () => {
    using made = new RandomLayer(device(), problemOf(layers[0] as Masked, "f32"));
    const { layer, x } = made;
    const parameters = layer.parameters();
    const { state } = layer.forward(x, { save: true });
    const backward = (gradLosses?: GradLosses) =>
      layer.backward(state, x, { gradients: parameters.gradients, accumulate: true, gradLosses });
    const factor = 1;
    const sequences = /^gradLosses.loadBalancingLoss.sequences: expected a divisor of 12 tokens, got 5$/;
    expectError(() => backward({ loadBalancingLoss: { factor, sequences: 5 } }), "INVALID_ARGUMENT", sequences);
    const tokenMask = device().zeros([3], "u8");
    for (const name of ["loadBalancingLoss", "zLoss"] as const) {
      const expected = new RegExp(`^gradLosses.${name}.tokenMask: expected shape \\[12\\], got \\[3\\]$`);
      expectError(() => backward({ [name]: { factor, tokenMask } }), "SHAPE_MISMATCH", expected);
    }
    for (const { gradient } of parameters) expect(gradient?.dataSync().every((value) => value === 0)).toBe(true);
    backward();
  });
});
