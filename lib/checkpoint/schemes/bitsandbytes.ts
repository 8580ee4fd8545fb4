import { describe } from "../../core/errors.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { greatestCommonDivisor } from "../../core/greatest_common_divisor.js";
import { sameShape, shapeText } from "../../core/tensors/shape.js";
import { ConfigFields } from "../config_fields.js";
import type { TensorRange } from "../locate/located_weight.js";
import { parseJsonObject } from "../safetensors/strict_json.js";
import { swapNibbles } from "./bits.js";
import { NestedScales } from "./nested_scales.js";
import { checkScales, largestGroup } from "./scales.js";
import type { Scheme } from "./scheme.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

const kinds = ["nf4", "fp4"] as const;

/**
 * Four bits of bitsandbytes: one stream of codes of a table, the first of a byte in its high half, and a scale for every
 * `blocksize` of them, which may be quantised in turn. Blocks run on across rows: a format has groups of a row, of the
 * largest size that divides block and row, so no group is in two blocks. Sizes are in a JSON text. Quantised scales stay
 * so if they have bitsandbytes' ordinary sizes and map, and if whole groups of the format's make up a row.
 */
export const bnb4: Scheme = {
  takes: (matrix) => kinds.some((kind) => matrix.has(`weight.quant_state.bitsandbytes__${kind}`)),
  locate: async (matrix) => {
    const { rows, columns } = matrix;
    const kind = matrix.has("weight.quant_state.bitsandbytes__nf4") ? "nf4" : "fp4";
    const stateTensor = matrix.need(`weight.quant_state.bitsandbytes__${kind}`, ["U8"]);
    const state = await readState(matrix, stateTensor);
    checkShape(matrix, stateTensor, state);
    const count = rows * columns;
    const { count: copies } = matrix.stack ?? { count: 1 };
    const block = state.integer("blocksize", undefined, { maximum: 2 ** 20 });
    const group = groupWithin(matrix, block);
    const codes = matrix.needOfAnyDType("weight");
    const [codeBytes, { byteLength }] = [Math.ceil((copies * count) / 2), codes.info];
    if (byteLength !== codeBytes) {
      const sizes = copies > 1 ? `${copies} x ${rows}` : rows;
      throw matrix.error(`expected ${codeBytes} bytes for ${sizes} x ${columns} codes of 4 bits, got ${byteLength}`);
    }
    if (copies > 1 && count % block !== 0) {
      throw matrix.error(`expected experts of whole blocks of ${block}, got ${rows} x ${columns} codes`);
    }
    const absmax = matrix.needForAll("weight.absmax", ["F32", "U8"], [Math.ceil((copies * count) / block)]);
    const table = matrix.needForAll("weight.quant_map", ["F32"], [16]);
    const nested = absmax.info.dtype === "U8" ? new NestedScales(matrix, state, block) : undefined;
    const ofAll = [table, ...(nested ? [nested.sizes, nested.map] : [])];
    const keepsNested = (await nested?.areOf(`${kind}_nested`)) ?? false;
    const format = keepsNested ? `${kind}_nested` : `${kind}_g${group}_f32`;
    matrix.refuseOthers(format, [codes, absmax, ...ofAll, stateTensor], []);
    matrix.checkStated(4);
    matrix.quantization.fields?.require("bnb_4bit_quant_type", kind);
    matrix.quantization.fields?.require("bnb_4bit_use_double_quant", nested !== undefined);
    const ranges: readonly TensorRange[] = [
      ...[codes, absmax].map((tensor) => matrix.range(tensor)),
      ...ofAll.map((tensor) => matrix.wholeRange(tensor)),
    ];
    return matrix.locatedIn(format, ranges, (bytes) => {
      const [codeBytes, absmaxBytes, tableBytes, ...more] = bytes as [
        Uint8Array,
        Uint8Array,
        Uint8Array,
        ...Uint8Array[],
      ];
      checkTable(matrix, table, floatsIn(tableBytes), format);
      swapNibbles(codeBytes);
      const [nestedSizes, map] = more.map(floatsIn) as [Float32Array, Float32Array];
      if (nested && keepsNested) return { codes: codeBytes, ...nested.levels(format, absmaxBytes, nestedSizes) };
      const sizes = nested
        ? nested.values(absmaxBytes, nestedSizes, map)
        : floatsIn(checkScales(matrix, absmax, absmaxBytes, 1));
      const scales = block === group ? sizes : spread(sizes, count, block, group);
      return { codes: codeBytes, scales };
    });
  },
};

const floatsIn = (bytes: Uint8Array) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);

async function readState(matrix: StoredMatrix, tensor: FoundTensor): Promise<ConfigFields> {
  const { byteLength } = tensor.info;
  if (byteLength > 2 ** 16) throw matrix.errorAt(tensor, `expected a short JSON text, got ${byteLength} bytes`);
  const place = `${tensor.file.path}: ${tensor.name}`;
  return new ConfigFields(place, parseJsonObject(place, await matrix.read(tensor)));
}

/** The shape in the JSON text tells in which order a stream has the weights of stacked experts. */
function checkShape(matrix: StoredMatrix, tensor: FoundTensor, state: ConfigFields): void {
  const { stack, rows, columns } = matrix;
  if (stack === undefined) return;
  const expected = [stack.count, rows, columns];
  const given = state.integers("shape", []);
  if (sameShape(given, expected) && !stack.inputsFirst) return;
  const got = stack.inputsFirst ? `${shapeText(given)}, whose blocks run along outputs` : shapeText(given);
  throw matrix.errorAt(tensor, `shape: expected ${shapeText(expected)}, experts with outputs first, got ${got}`);
}

function groupWithin(matrix: StoredMatrix, block: number): number {
  let group = matrix.uncutGroup(greatestCommonDivisor(block, matrix.columns));
  while (group > largestGroup && group % 2 === 0) group /= 2;
  if (group % 16 === 0 && group <= largestGroup) return group;
  throw matrix.error(
    `expected rows and blocks that have a multiple of 16 as common divisor, got ${matrix.columns} columns in blocks of ` +
      `${block} that run across rows`,
  );
}

/** The table in the file must be the format's own. */
function checkTable(matrix: StoredMatrix, tensor: FoundTensor, given: Float32Array, format: string): void {
  const table = weightFormat(format).table as readonly number[];
  const wrong = table.findIndex((value, code) => !(Math.abs(value - (given[code] as number)) <= 1e-6));
  if (wrong < 0) return;
  const name = format.split("_")[0];
  throw matrix.errorAt(tensor, `expected the table of ${name}, got ${describe(given[wrong])} for code ${wrong}`);
}

/** The scales of blocks, for the smaller groups that they consist of. */
function spread(sizes: Float32Array, count: number, block: number, group: number): Float32Array {
  return Float32Array.from(
    { length: count / group },
    (_, index) => sizes[Math.floor((index * group) / block)] as number,
  );
}
