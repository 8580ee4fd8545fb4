import type { Device } from "../core/device/device.js";
import type { DType } from "../core/tensors/dtype.js";
import { Tensor } from "../core/tensors/tensor.js";
import { PackedExperts } from "../operators/experts/packed_experts.js";
import { type QuantizedWeight, tensorsOf } from "../operators/experts/quantized_weight.js";
import { Random } from "../testing/inputs/random.js";
import { randomQuantized } from "../testing/inputs/random_quantized.js";
import { isTestArray, toFloat32 } from "../testing/subject/arrays.js";
import type { TestArray } from "../testing/subject/subject.js";
import { type BenchCase, type CaseOptions, inputCount, mean, rotation, whyIncomparable } from "./bench_case.js";
import { operatorCalls } from "./contenders/operator_calls.js";
import { Draw } from "./operators/draw.js";
import type { CallTensors, OperatorCase, Sizes } from "./operators/operator_case.js";
import { seedOf, sizesOf } from "./operators/sizes.js";
import { WeightPool } from "./weights/pool.js";

/** An operator at each number of tokens. Frees its tensors when the iteration ends. */
export async function* operatorBenchCases(
  device: Device,
  operatorCase: OperatorCase,
  options: CaseOptions,
): AsyncGenerator<BenchCase> {
  const weights = operatorCase.weights?.(sizesOf(options, 1));
  using pool = weights && new WeightPool(device, options, weights);
  for (const tokens of options.tokenCounts) yield* caseOf(device, operatorCase, options, tokens, pool);
}

async function* caseOf(
  device: Device,
  operatorCase: OperatorCase,
  options: CaseOptions,
  tokens: number,
  pool: WeightPool | undefined,
): AsyncGenerator<BenchCase> {
  const { name, operator } = operatorCase;
  const sizes = sizesOf(options, tokens);
  const made: Disposable[] = [];
  const keep = <T extends Disposable>(resource: T): T => {
    made.push(resource);
    return resource;
  };
  try {
    const inputs = Array.from({ length: inputCount(tokens) }, (_, index) =>
      upload(device, operatorCase, sizes, index, keep),
    );
    const weights = await pool?.packed();
    const declared = Object.entries(operatorCase.outputs(sizes));
    const calls = Array.from({ length: Math.max(inputs.length, weights?.length ?? 0) }, (_, index) => {
      const tensors = inputs[index % inputs.length] as CallTensors;
      return weights ? { ...tensors, weight: weights[index % weights.length] } : tensors;
    });
    const [first] = calls as [CallTensors];
    const updated = declared.flatMap(([field]) => (field in first ? [field] : []));
    const out = Object.fromEntries(
      declared.flatMap(([field, { shape, dtype }]) =>
        updated.includes(field) ? [] : [[field, keep(device.empty(shape, dtype as DType))]],
      ),
    );
    const call = operatorCase.call(sizes);
    const next = rotation(calls);
    yield {
      ...{ name, operator, tokens },
      operations: operatorCase.operations?.(sizes) ?? 0,
      bytes: mean(calls.map((tensors) => bytesOf({ ...tensors, ...out }, sizes))),
      enqueue: () => call(next(), out, device),
      async firstOutputs() {
        if (updated.length > 0) {
          const drawn = operatorCase.inputs(new Draw(seedOf(operatorCase, sizes, 0)), sizes);
          for (const field of updated) first[field].write(toFloat32(drawn[field] as TestArray));
        }
        call(first, out, device);
        const values = declared.map(async ([field]) => [field, await (out[field] ?? first[field]).data()] as const);
        return Object.fromEntries(await Promise.all(values));
      },
      incomparable: pool ? whyIncomparable(options) : null,
      contenderCalls: (anew) => operatorCalls(operatorCase, sizes, pool?.arrays(anew)),
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
    isTestArray(value)
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
