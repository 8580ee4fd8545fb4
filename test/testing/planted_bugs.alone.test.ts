import { expect, test } from "vitest";
import { openDevice } from "../../lib/index.js";
import {
  deviceSubject,
  runCases,
  type Subject,
  type SubjectInputs,
  type SubjectOutput,
  toFloat32,
} from "../../lib/testing/index.js";
import { drawOnce } from "./draw_once.js";

drawOnce();

// Kernels with the mistakes that kernels have. Each must be caught by the public cases.

type Outputs = Record<string, number[]>;
type Operator = keyof Subject["operators"];

/** Right but for a bug in one operator: `before` spoils what it gets, `after` what it returns. */
interface Bug {
  readonly operator: Operator;
  /** Only cases of these names, where all take long. */
  readonly cases?: RegExp;
  /** Among them large ones. */
  readonly large?: boolean;
  before?(inputs: SubjectInputs): SubjectInputs;
  after?(outputs: Outputs, inputs: SubjectInputs): void;
}

function swap(values: number[], a: number, b: number, width: number): void {
  const first = values.slice(a * width, (a + 1) * width);
  values.splice(a * width, width, ...values.slice(b * width, (b + 1) * width));
  values.splice(b * width, width, ...first);
}

const widthOf = ({ shape }: { shape: readonly number[] }): number => shape.at(-1) as number;

/** Inputs in which `change` has been applied to the quantised weights, if they are. */
const quantised =
  (change: (weight: SubjectInputs) => SubjectInputs) =>
  ({ weight, ...inputs }: SubjectInputs): SubjectInputs => ({
    ...inputs,
    weight: weight.codes === undefined ? weight : change(weight),
  });

const without = (inputs: SubjectInputs, ...names: readonly string[]): SubjectInputs =>
  Object.fromEntries(Object.entries(inputs).filter(([name]) => !names.includes(name)));

const bugsOfLayers: Readonly<Record<string, Bug>> = {
  "gate and up of a layer are exchanged": {
    operator: "layer",
    cases: /T13 .* (swiglu|geglu) f32 x f32/,
    before({ weights, ...inputs }) {
      const { gate, up, ...experts } = weights.experts;
      return { ...inputs, weights: { ...weights, experts: { ...experts, gate: up, up: gate } } };
    },
  },
  "a layer's shared expert is forgotten": {
    operator: "layer",
    cases: /shared 33/,
    before: ({ weights, config, ...inputs }) => ({
      ...inputs,
      config: without(config, "sharedExpert"),
      weights: without(weights, "shared", "sharedGate", "sharedGateBias"),
    }),
  },
  "the residual of a layer is forgotten": {
    operator: "layer",
    cases: /residual/,
    before: (inputs) => without(inputs, "residual"),
  },
  "a layer's experts have no end to their capacity": {
    operator: "layer",
    cases: /capacity/,
    before: ({ config, ...inputs }) => ({ ...inputs, config: without(config, "capacity") }),
  },
  "a layer leaves out the noise": {
    operator: "layer",
    cases: /noisy/,
    before: (inputs) => without(inputs, "training"),
  },
  "a layer does not use the routing that it got": {
    operator: "layer",
    cases: /T13 .*routing/,
    before: (inputs) => without(inputs, "routing"),
  },
  "an order of the inputs of a layer's expert is forgotten": {
    operator: "layer",
    cases: /inputs: order/,
    before: ({ weights, ...inputs }) => ({
      ...inputs,
      weights: { ...weights, experts: { ...weights.experts, down: without(weights.experts.down, "inputOrder") } },
    }),
  },
};

const bugsOfQuantisedWeights: Readonly<Record<string, Bug>> = {
  "half bytes are exchanged": {
    operator: "groupedGemm",
    cases: /i4_g32/,
    before: quantised(({ codes, ...weight }) => ({
      ...weight,
      codes: { ...codes, data: codes.data.map((code: number) => ((code & 15) << 4) | (code >> 4)) },
    })),
  },
  "zero points are one too large": {
    operator: "groupedGemm",
    cases: /u4_g16/,
    before: quantised(({ zeros, ...weight }) => ({
      ...weight,
      zeros: { ...zeros, data: zeros.data.map((zero: number) => (zero + 1) & 15) },
    })),
  },
  "every group has the scale of the next": {
    operator: "groupedGemm",
    cases: /q4_k/,
    before: quantised(({ scales, ...weight }) => ({
      ...weight,
      scales: {
        ...scales,
        data: scales.data.map((_: number, index: number) => scales.data[(index + 1) % scales.data.length]),
      },
    })),
  },
  "scales of the inputs are forgotten": {
    operator: "groupedGemm",
    cases: /inputs: (scale|both)/,
    before: quantised((weight) => without(weight, "inputScale")),
  },
};

const bugsOfOptimizers: Readonly<Record<string, Bug>> = {
  "AdamW does not correct its averages": { operator: "adamW", before: (inputs) => ({ ...inputs, step: 1_000_000 }) },
  "AdamW's decay is part of the gradient": {
    operator: "adamW",
    before({ gradient, parameter, weightDecay, ...inputs }) {
      const data = gradient.data.map((value: number, index: number) => value + weightDecay * parameter.data[index]);
      return { ...inputs, gradient: { ...gradient, data }, parameter, weightDecay: 0 };
    },
  },
  "AdamW divides by the root alone": { operator: "adamW", before: (inputs) => ({ ...inputs, epsilon: 0 }) },
  "gradients are not clipped": { operator: "adamW", before: (inputs) => without(inputs, "squaredNorm") },
  "the copy is that of the parameter before the step": {
    operator: "sgd",
    after(outputs, { parameter }) {
      if (outputs.copy !== undefined) outputs.copy = Array.from(parameter.data);
    },
  },
  "Nesterov's momentum is the plain one": { operator: "sgd", before: (inputs) => ({ ...inputs, nesterov: false }) },
  "a total is overwritten": {
    operator: "sumOfSquares",
    before: ({ total, ...inputs }) => ({ ...inputs, total: { ...total, data: new Float32Array(1) } }) as SubjectInputs,
  },
};

/** A sum over all values of a tensor, as a mask that multiplies leaves it: 0, unless one of them is NaN. */
const masked = ({ data, dtype }: { data: ArrayLike<number>; dtype: string }): number =>
  toFloat32({ data, dtype }).reduce((sum, value) => sum + 0 * value, 0);

const bugsOfMasks: Readonly<Record<string, Bug>> = {
  "tokens that no row has are masked by multiplication": {
    operator: "groupedGemm",
    cases: /gathered|rows behind/,
    after({ y = [] }, { x }) {
      const added = masked(x);
      for (let index = 0; index < y.length; index++) (y[index] as number) += added;
    },
  },
  "gradients of rows without a token are masked by multiplication": {
    operator: "groupedGemmWeightBackward",
    cases: /gathered|rows behind/,
    after({ dWeight = [] }, { dy }) {
      const added = masked(dy);
      for (let index = 0; index < dWeight.length; index++) (dWeight[index] as number) += added;
    },
  },
  "slots of -1 weigh nothing": {
    operator: "combine",
    after({ y = [] }, { weights }) {
      const added = masked(weights);
      for (let index = 0; index < y.length; index++) (y[index] as number) += added;
    },
  },
  "tokens that do not count are multiplied by 0": {
    operator: "columnMeans",
    cases: /masked/,
    large: true,
    after({ means = [] }, { values }) {
      const added = masked(values);
      for (let index = 0; index < means.length; index++) (means[index] as number) += added;
    },
  },
};

const bugs: Readonly<Record<string, Bug>> = {
  "rows are counted in 16 bits": {
    operator: "sort",
    cases: /T70000/,
    large: true,
    after(outputs) {
      outputs.rowOfSlot = outputs.rowOfSlot?.map((row) => row & 0xffff) ?? [];
    },
  },
  "an expert's tokens are counted in 16 bits": {
    operator: "sort",
    cases: /T70000/,
    large: true,
    after(outputs) {
      outputs.tokensPerExpert = outputs.tokensPerExpert?.map((count) => count & 0xffff) ?? [];
    },
  },
  "a single expert has no bias": {
    operator: "groupedGemm",
    before: (inputs) => (inputs.offsets.data.length === 2 ? without(inputs, "bias") : inputs),
  },
  "the epsilon that is added to the sum is forgotten": {
    operator: "gating",
    before({ rule, ...inputs }) {
      const normalization = rule.normalization === "sum_plus_epsilon" ? "sum" : rule.normalization;
      return { ...inputs, rule: { ...rule, normalization } };
    },
  },
  "the logarithm is wrong in a case that has infinities": {
    operator: "routerScores",
    cases: /non_finite/,
    after(outputs) {
      outputs.logSumExp = outputs.logSumExp?.map((value) => value + 1) ?? [];
    },
  },
  "two rows swapped": {
    operator: "permute",
    after({ rows = [] }, { outputs }) {
      const [count, width] = outputs.rows.shape as [number, number];
      if (count > 4) swap(rows, 3, 4, width);
    },
  },
  "the last expert is missing": {
    operator: "groupedGemm",
    after({ y = [] }, { offsets, outputs }) {
      const width = widthOf(outputs.y);
      y.fill(0, width * (offsets.data.at(-2) ?? 0), width * offsets.data.at(-1));
    },
  },
  "ties go to the higher expert": {
    operator: "gating",
    after({ ids = [] }, { logits, rule }) {
      const experts = logits.shape[1];
      const value = (token: number, id: number) => logits.data[token * experts + id];
      for (let slot = 0; slot + 1 < ids.length; slot++) {
        const token = Math.floor(slot / rule.topK);
        const [one, other] = [ids[slot], ids[slot + 1]] as [number, number];
        if ((slot + 1) % rule.topK === 0 || value(token, one) !== value(token, other)) continue;
        [ids[slot], ids[slot + 1]] = [other, one];
      }
    },
  },
  "combine without weights": {
    operator: "combine",
    before: (inputs) => ({
      ...inputs,
      weights: { ...inputs.weights, data: new Float32Array(inputs.weights.data.length).fill(1) },
    }),
  },
  "weights are not normalised": {
    operator: "gating",
    before: (inputs) => ({ ...inputs, rule: { ...inputs.rule, normalization: "none" } }),
  },
  "the scale of the weights is forgotten": {
    operator: "gating",
    before: (inputs) => ({ ...inputs, rule: { ...inputs.rule, scale: 1 } }),
  },
  "a NaN logit counts as the largest": {
    operator: "gating",
    before: ({ logits, ...inputs }) => ({
      ...inputs,
      logits: { ...logits, data: logits.data.map((value: number) => (Number.isNaN(value) ? 3e38 : value)) },
    }),
  },
  "offsets are shifted by one expert": {
    operator: "sort",
    after({ offsets = [] }) {
      offsets.pop();
      offsets.unshift(0);
    },
  },
  "a dropped slot takes row 0": {
    operator: "combine",
    before: ({ rowOfSlot, ...inputs }) => ({
      ...inputs,
      rowOfSlot: {
        ...rowOfSlot,
        data: rowOfSlot.data.map((row: number) => (inputs.rows.shape[0] > 0 ? Math.max(0, row) : row)),
      },
    }),
  },
  "gate and up are exchanged": {
    operator: "activate",
    before({ pre, ...inputs }) {
      const width = widthOf(pre);
      const half = width / 2;
      const exchanged = pre.data.map((_: number, index: number) => {
        const column = index % width;
        return pre.data[index - column + ((column + half) % width)];
      });
      const gated = inputs.activation.includes("glu");
      return { ...inputs, pre: gated ? { ...pre, data: exchanged } : pre };
    },
  },
  "the bias is forgotten": { operator: "groupedGemm", before: ({ bias: _, ...inputs }) => inputs as SubjectInputs },
  "rows behind the last expert are not written": {
    operator: "groupedGemm",
    after({ y = [] }, { offsets, outputs }) {
      y.fill(Number.NaN, widthOf(outputs.y) * offsets.data.at(-1));
    },
  },
  "the last column of a tile is cut off": {
    operator: "routerProjection",
    before({ x, ...inputs }) {
      const width = widthOf(x);
      const cut = x.data.map((value: number, index: number) =>
        index % width >= 16 * Math.floor(width / 16) ? 0 : value,
      );
      return { ...inputs, x: { ...x, data: cut } };
    },
  },
  "the selection bias is part of the weights": {
    operator: "gating",
    before({ selectionBias, logits, ...inputs }) {
      if (selectionBias === undefined || logits.dtype !== "f32" || selectionBias.dtype !== "f32") {
        return { ...inputs, logits, ...(selectionBias && { selectionBias }) } as SubjectInputs;
      }
      const experts = logits.shape[1];
      const data = logits.data.map((value: number, index: number) => value + selectionBias.data[index % experts]);
      return { ...inputs, logits: { ...logits, data } } as SubjectInputs;
    },
  },
  ...bugsOfMasks,
  ...bugsOfLayers,
  ...bugsOfQuantisedWeights,
  ...bugsOfOptimizers,
};

const device = openDevice("reference", { poison: true });
const right = deviceSubject(device);

function planted(name: string, { operator, before, after }: Bug): Subject {
  const compute = right.operators[operator] as (inputs: SubjectInputs) => Promise<Record<string, SubjectOutput>>;
  return {
    name,
    operators: {
      async [operator](inputs: SubjectInputs) {
        const returned = await compute(before?.(inputs) ?? inputs);
        const outputs = Object.fromEntries(
          Object.entries(returned).map(([field, values]) => [field, Array.from(values)]),
        );
        after?.(outputs, inputs);
        return outputs;
      },
    },
  };
}

const small = ({ name }: { name: string }): boolean =>
  !/[TER]\d{4}|\d{4} rows|T300|T2000|E1[01]\d\d|H2880|K2880|I2880/.test(name);

test.each(Object.entries(bugs))("%s: is caught", async (name, bug) => {
  const report = await runCases(planted(name, bug), {
    filter: (one) => (bug.large === true || small(one)) && (bug.cases?.test(one.name) ?? true),
  });
  const failed = report.results.filter(({ passed }) => !passed);
  expect(failed.length).toBeGreaterThan(0);
  expect(report.passed).toBe(false);
  // What fails is the numbers, not the harness.
  expect(failed.filter(({ failure }) => failure !== null)).toEqual([]);
});

test("without bugs, every case of these operators passes", async () => {
  const operators = Object.fromEntries(
    Object.values(bugs).map(({ operator }) => [operator, right.operators[operator]]),
  ) as Subject["operators"];
  const report = await runCases({ name: "right", operators }, { filter: small });
  expect(report.results.filter(({ passed }) => !passed)).toEqual([]);
  expect(report.results.length).toBeGreaterThan(200);
});
