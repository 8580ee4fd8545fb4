import type { LayerDescription } from "#lib/core/backend.js";
import type { Device } from "#lib/core/device.js";
import { dtypes, type FloatDType } from "#lib/core/dtype.js";
import type { StageTimes } from "#lib/core/stages.js";
import type { Tensor } from "#lib/core/tensor.js";
import { describeLayer, gateUpRows } from "#lib/layer/description/config.js";
import { countedRows, layerWork } from "#lib/layer/work.js";
import { activate } from "#lib/operators/experts/activate.js";
import { activationBackward } from "#lib/operators/experts/activation_backward.js";
import { combine } from "#lib/operators/experts/combine.js";
import { combineBackward } from "#lib/operators/experts/combine_backward.js";
import { groupedGemm, type PackedExperts, packExperts } from "#lib/operators/experts/grouped_gemm.js";
import { permute, unpermute } from "#lib/operators/experts/permute.js";
import { permuteBackward } from "#lib/operators/experts/permute_backward.js";
import { gating } from "#lib/operators/routing/gating.js";
import type { GatingRuleOptions } from "#lib/operators/routing/gating_options.js";
import { routerProjection } from "#lib/operators/routing/router_projection.js";
import { sort } from "#lib/operators/routing/sort.js";
import { RandomWeights, randomTokens } from "#lib/testing/random_layer.js";
import { type BenchCase, type CaseOptions, gatingRule, inputCount, mean, rotation } from "./case.js";

export const operatorNames = [
  "router_projection",
  "gating",
  "sort",
  "permute",
  "grouped_gemm gate_up",
  "grouped_gemm down",
  "unpermute",
  "combine",
  "activate",
  "activation_backward",
  "combine_backward",
  "permute_backward",
] as const;

interface Weights {
  readonly router: Tensor<FloatDType>;
  readonly gateUp: readonly PackedExperts[];
  readonly down: readonly PackedExperts[];
}

/** Every operator on its own, at each number of tokens. Frees its tensors when the iteration ends. */
export async function* operatorCases(device: Device, options: CaseOptions): AsyncGenerator<BenchCase> {
  const description = describeLayer(options.config, options.dtype);
  const weights = await randomWeights(device, description, options);
  try {
    for (const tokens of options.tokenCounts) yield* casesOf(device, description, weights, tokens, options);
  } finally {
    for (const held of [weights.router, ...weights.gateUp, ...weights.down]) held.dispose();
  }
}

async function randomWeights(
  device: Device,
  description: LayerDescription,
  { dtype, weightBytes }: CaseOptions,
): Promise<Weights> {
  const { numExperts, hiddenSize, intermediateSize, activation } = description;
  const random = new RandomWeights("operators");
  const copies = async (rows: number, columns: number, packedFor: typeof activation): Promise<PackedExperts[]> => {
    const packed: PackedExperts[] = [];
    do {
      using plain = random.tensor(device, [numExperts, rows, columns], dtype, columns ** -0.5);
      packed.push(packExperts(plain, { activation: packedFor }));
      await device.synchronize();
    } while (packed.length * (packed[0] as PackedExperts).byteLength < weightBytes);
    return packed;
  };
  return {
    router: random.tensor(device, [numExperts, hiddenSize], dtype, hiddenSize ** -0.5),
    gateUp: await copies(gateUpRows(description), hiddenSize, activation),
    down: await copies(hiddenSize, intermediateSize, "none"),
  };
}

async function* casesOf(
  device: Device,
  description: LayerDescription,
  weights: Weights,
  tokens: number,
  { config, dtype }: CaseOptions,
): AsyncGenerator<BenchCase> {
  const rule = gatingRule(config);
  const { hiddenSize, intermediateSize, numExperts, topK, activation, clamp } = description;
  const calls = Array.from({ length: inputCount(tokens) }, (_, index) =>
    passThrough(device, rule, weights, randomTokens(tokens, hiddenSize, index), description, dtype),
  );
  try {
    const works = await Promise.all(
      calls.map(async ({ rows }) => {
        const load = countedRows(tokens, await rows.tokensPerExpert.data());
        return layerWork(description, load, dtype).stages;
      }),
    );
    const { bytes } = dtypes[dtype];
    const count = tokens * topK;
    const [tokenBytes, rowBytes, innerBytes] = [tokens * hiddenSize, count * hiddenSize, count * intermediateSize].map(
      (elements) => elements * bytes,
    ) as [number, number, number];
    const preBytes = count * gateUpRows(description) * bytes;
    const logitBytes = tokens * numExperts * 4;
    const next = rotation(calls);
    const nextGateUp = rotation(weights.gateUp);
    const nextDown = rotation(weights.down);

    const make = (
      operator: (typeof operatorNames)[number],
      stage: keyof StageTimes | undefined,
      activationBytes: number,
      enqueue: () => void,
    ): BenchCase => ({
      operator,
      tokens,
      operations: stage ? mean(works.map((work) => work[stage].operations)) : 0,
      bytes: activationBytes + (stage ? mean(works.map((work) => work[stage].weightBytes)) : 0),
      enqueue,
    });
    yield make("router_projection", "router", tokenBytes + logitBytes, () => {
      const { x, logits } = next();
      routerProjection(x, weights.router, { out: logits });
    });
    yield make("gating", "gating", logitBytes + count * 8, () => {
      const { logits, routing } = next();
      gating(logits, { ...rule, out: routing });
    });
    yield make("sort", "sort", count * 12 + numExperts * 8, () => {
      const { routing, rows } = next();
      sort(routing.ids, { numExperts, out: rows });
    });
    yield make("permute", undefined, 2 * rowBytes + count * 4, () => {
      const { x, rows, permuted } = next();
      permute(x, rows.tokenOfRow, { out: permuted });
    });
    yield make("grouped_gemm gate_up", "gateUp", tokenBytes + innerBytes, () => {
      const { x, rows, inner } = next();
      groupedGemm(x, nextGateUp(), rows.offsets, { tokenOfRow: rows.tokenOfRow, out: inner });
    });
    yield make("grouped_gemm down", "down", innerBytes + rowBytes, () => {
      const { inner, rows, outer } = next();
      groupedGemm(inner, nextDown(), rows.offsets, { out: outer });
    });
    yield make("unpermute", undefined, 2 * rowBytes + count * 4, () => {
      const { outer, rows, slots } = next();
      unpermute(outer, rows.rowOfSlot, { out: slots });
    });
    yield make("combine", "combine", rowBytes + tokenBytes + count * 8, () => {
      const { outer, rows, routing, y } = next();
      combine(outer, rows.rowOfSlot, routing.weights, { out: y });
    });
    yield make("activate", undefined, preBytes + innerBytes, () => {
      const { pre, inner } = next();
      activate(pre, { activation, clamp, out: inner });
    });
    yield make("activation_backward", undefined, 2 * preBytes + 2 * innerBytes, () => {
      const { pre, dPre, dInner, inner } = next();
      activationBackward(pre, dInner, { activation, clamp, inner: true, out: { dPre, inner } });
    });
    yield make("combine_backward", undefined, 2 * rowBytes + tokenBytes + count * 12, () => {
      const { outer, rows, routing, y, permuted, dWeights } = next();
      const out = { dRows: permuted, dWeights };
      combineBackward(outer, rows.rowOfSlot, routing.weights, y, { out });
    });
    yield make("permute_backward", undefined, rowBytes + tokenBytes + count * 8, () => {
      const { permuted, rows, y } = next();
      permuteBackward(permuted, rows.rowOfSlot, { out: y });
    });
  } finally {
    for (const call of calls) call.dispose();
  }
}

/** The tensors of one pass through all operators. */
function passThrough(
  device: Device,
  rule: GatingRuleOptions,
  weights: Weights,
  tokens: Float32Array,
  description: LayerDescription,
  dtype: FloatDType,
) {
  const [numExperts, hiddenSize] = weights.router.shape as [number, number];
  const x = device.tensor(tokens, [tokens.length / hiddenSize, hiddenSize], dtype);
  const logits = routerProjection(x, weights.router);
  const routing = gating(logits, rule);
  const rows = sort(routing.ids, { numExperts });
  const permuted = permute(x, rows.tokenOfRow);
  const inner = groupedGemm(permuted, weights.gateUp[0] as PackedExperts, rows.offsets);
  const outer = groupedGemm(inner, weights.down[0] as PackedExperts, rows.offsets);
  const slots = unpermute(outer, rows.rowOfSlot);
  const y = combine(outer, rows.rowOfSlot, routing.weights);
  const random = new RandomWeights("activations");
  const pre = random.tensor(device, [permuted.shape[0] as number, gateUpRows(description)], dtype, 1);
  const dInner = random.tensor(device, inner.shape, dtype, 1);
  const [dPre, dWeights] = [device.empty(pre.shape, dtype), device.empty(routing.weights.shape, "f32")];
  const tensors = { x, logits, routing, rows, permuted, inner, outer, slots, y, pre, dPre, dInner, dWeights };
  return {
    ...tensors,
    dispose() {
      const { routing: pair, rows: maps, ...others } = tensors;
      for (const tensor of [...Object.values(pair), ...Object.values(maps), ...Object.values(others)]) tensor.dispose();
    },
  };
}
