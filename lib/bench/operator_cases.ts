import type { Device } from "../core/device.js";
import type { DType } from "../core/dtype.js";
import { Tensor } from "../core/tensor.js";
import { describeLayer } from "../layer/description/config.js";
import { weightStorage } from "../layer/description/storage.js";
import { PackedExperts } from "../operators/experts/grouped_gemm.js";
import { type QuantizedWeight, tensorsOf } from "../operators/experts/quantized_weight.js";
import { checkGating, gatingRule } from "../operators/routing/gating_options.js";
import { Random } from "../testing/random.js";
import { randomQuantized } from "../testing/random_quantized.js";
import { type BenchCase, type CaseOptions, gatingRuleOf, inputCount, mean, rotation } from "./bench_case.js";
import { Draw } from "./operators/draw.js";
import { type CallTensors, isArray, type OperatorCase, type Sizes } from "./operators/operator_case.js";
import { operatorCases } from "./operators/table.js";
import { WeightPool } from "./weight_pool.js";

/** Every operator that is wanted, at each number of tokens. Frees its tensors when the iteration ends. */
export async function* operatorBenchCases(device: Device, options: CaseOptions): AsyncGenerator<BenchCase> {
  using pool = new WeightPool(device, options);
  for (const operatorCase of operatorCases.filter(({ name }) => options.wanted(name))) {
    for (const tokens of options.tokenCounts) {
      yield* caseOf(device, operatorCase, sizesOf(options, tokens), pool);
    }
    pool.clear();
  }
}

export function sizesOf({ config, dtype, format }: Omit<CaseOptions, "tokenCounts">, tokens: number): Sizes {
  const { hiddenSize, intermediateSize, numExperts, topK } = config;
  const rule = gatingRuleOf(config);
  return {
    ...{ tokens, rows: tokens * topK, hiddenSize, intermediateSize, numExperts, topK, dtype, format, rule },
    description: describeLayer(config, weightStorage(format, { router: dtype })),
    gating: checkGating(gatingRule(rule, "config"), numExperts),
  };
}

/** What a call's inputs are drawn from. */
export const seedOf = ({ name }: OperatorCase, { tokens }: Sizes, index: number): string =>
  `${name} T${tokens} ${index}`;

async function* caseOf(
  device: Device,
  operatorCase: OperatorCase,
  sizes: Sizes,
  pool: WeightPool,
): AsyncGenerator<BenchCase> {
  const { name } = operatorCase;
  const made: Disposable[] = [];
  const keep = <T extends Disposable>(resource: T): T => {
    made.push(resource);
    return resource;
  };
  try {
    const inputs = Array.from({ length: inputCount(sizes.tokens) }, (_, index) =>
      upload(device, operatorCase, sizes, index, keep),
    );
    const declared = operatorCase.weights?.(sizes);
    const weights = declared && (await pool.packed(declared));
    const out = Object.fromEntries(
      Object.entries(operatorCase.outputs(sizes)).map(([field, { shape, dtype }]) => [
        field,
        keep(device.empty(shape, dtype as DType)),
      ]),
    );
    const calls = Array.from({ length: Math.max(inputs.length, weights?.length ?? 0) }, (_, index) => {
      const tensors = inputs[index % inputs.length] as CallTensors;
      return weights ? { ...tensors, weight: weights[index % weights.length] } : tensors;
    });
    const call = operatorCase.call(sizes);
    const next = rotation(calls);
    yield {
      name,
      tokens: sizes.tokens,
      operations: operatorCase.operations?.(sizes) ?? 0,
      bytes: mean(calls.map((tensors) => bytesOf({ ...tensors, ...out }, sizes))),
      enqueue: () => call(next(), out, device),
      async firstOutputs() {
        call(calls[0] as CallTensors, out, device);
        const values = Object.entries(out).map(async ([field, tensor]) => [field, await tensor.data()] as const);
        return Object.fromEntries(await Promise.all(values));
      },
    };
  } finally {
    for (const resource of made) resource[Symbol.dispose]();
  }
}

function upload(
  device: Device,
  operatorCase: OperatorCase,
  sizes: Sizes,
  index: number,
  keep: <T extends Disposable>(resource: T) => T,
): CallTensors {
  const seed = seedOf(operatorCase, sizes, index);
  const given = Object.entries(operatorCase.inputs(new Draw(seed), sizes));
  const tensors = given.flatMap(([field, value]) =>
    isArray(value)
      ? [[field, keep(device.tensor(value.data, value.shape, value.dtype as DType) as Tensor)] as const]
      : [],
  );
  const quantized = operatorCase.quantized?.(sizes);
  if (quantized === undefined) return Object.fromEntries(tensors);
  const weight = randomQuantized(device, new Random(seed), quantized.format, quantized.matrix);
  for (const tensor of tensorsOf(weight)) keep(tensor);
  return { ...Object.fromEntries(tensors), weight: { ...weight, columns: quantized.matrix[1] } };
}

/** Bytes of all tensors of a call; of packed experts, those that have rows. */
function bytesOf(tensors: CallTensors, { numExperts }: Sizes): number {
  return Object.values(tensors).reduce((sum: number, value) => {
    if (value instanceof PackedExperts) return sum + (value.byteLength * activeExperts(tensors.offsets)) / numExperts;
    const parts = value instanceof Tensor ? [value] : tensorsOf(value as QuantizedWeight);
    return parts.reduce((total, { byteLength }) => total + byteLength, sum);
  }, 0);
}

function activeExperts(offsets: Tensor<"i32">): number {
  const ends = offsets.dataSync();
  return ends.slice(1).filter((end, expert) => end > (ends[expert] as number)).length;
}
