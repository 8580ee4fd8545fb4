import { MoeError } from "../core/errors.js";
import { memoryLeft } from "../core/tensors/allocated.js";
import { type DType, dtypes } from "../core/tensors/dtype.js";
import { shapeSize } from "../core/tensors/shape.js";
import { formatBytes } from "../terminal/format.js";
import { type CaseOptions, inputCount } from "./bench_case.js";
import { heldBytes } from "./held_bytes.js";
import type { OperatorCase } from "./operators/operator_case.js";
import { sizesOf } from "./operators/sizes.js";

/**
 * Refuses what takes more bytes than the process can fill, before any of it is made.
 *
 * @param option what has the value, for the error.
 * @param given the value.
 * @param purpose what takes the bytes.
 * @throws OUT_OF_MEMORY
 */
function checkFits(option: string, given: string, bytes: number, purpose: string, remedy: string): void {
  const free = memoryLeft();
  if (bytes <= free) return;
  const needed = `which takes at least ${formatBytes(bytes)} for ${purpose} where ${formatBytes(free)} are free`;
  throw new MoeError("OUT_OF_MEMORY", `${option}: expected what fits into memory, got ${given}, ${needed}; ${remedy}`);
}

/** Refuses a shape of which the memory cannot hold one layer, or the weights of one operator; see {@link checkFits}. */
export function checkShapeFits(
  option: string,
  shape: string,
  options: Pick<CaseOptions, "config" | "dtype" | "format">,
  operatorCase?: OperatorCase,
): void {
  const one = heldBytes(operatorCase, { ...options, weightBytes: 0 });
  const purpose = operatorCase?.name ?? "layer";
  checkFits(option, `${shape} in ${options.format}`, one, purpose, "give a smaller shape or format");
}

/**
 * Refuses cases whose calls or weights the memory cannot hold, so that none is begun; see {@link checkFits}.
 *
 * @param operatorCase undefined for the whole layer.
 * @param ownsMemory whether the device has weights in memory of its own.
 */
export function checkCaseFits(
  operatorCase: OperatorCase | undefined,
  shape: string,
  options: CaseOptions,
  ownsMemory: boolean,
): void {
  const { dtype, weightBytes, tokenCounts } = options;
  const purpose = operatorCase?.name ?? "layer";
  if (!ownsMemory) {
    checkShapeFits("shapes", shape, options, operatorCase);
    checkFits("weightBytes", `${weightBytes} bytes`, heldBytes(operatorCase, options), purpose, "give fewer");
  }
  for (const tokens of tokenCounts) {
    const bytes = callBytes(operatorCase, options, tokens);
    checkFits("tokens", `${tokens} tokens of ${shape} in ${dtype}`, bytes, purpose, "give fewer");
  }
}

/** Bytes that the inputs and outputs of a case take at least. */
function callBytes(operatorCase: OperatorCase | undefined, options: CaseOptions, tokens: number): number {
  if (operatorCase === undefined) {
    const rows = (inputCount(tokens) + 1) * tokens;
    return rows * options.config.hiddenSize * elementBytes(options.dtype);
  }
  const outputs = Object.values(operatorCase.outputs(sizesOf(options, tokens)));
  return outputs.reduce((sum, { shape, dtype }) => sum + shapeSize(shape) * elementBytes(dtype as DType), 0);
}

const elementBytes = (dtype: DType): number => dtypes[dtype].bytes;
