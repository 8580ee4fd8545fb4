import { newBytes } from "../../core/tensors/allocated.js";
import { matrixPlace, stackedShape } from "../../layer/weights/weight_layout.js";
import type { Part } from "../../operators/experts/quantized_weight.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import type { QuantizedBytes } from "../locate/located_weight.js";
import type { Model } from "../model.js";
import type { SafetensorsInput } from "../safetensors/writer.js";
import { asBytes } from "../schemes/bits.js";

/** How other software stores quantised matrices: what lib/checkpoint/schemes reads, the other way round. */
export interface PackedLayout {
  /** K must be a multiple of this. */
  readonly columnsPerGroup: number;
  /** What to choose if columns are no whole groups, as the end of an error. */
  readonly narrowerGroups: string;
  /** Whether readers expect every layer with experts in this layout. */
  readonly wholeModel: boolean;
  /** Whether the scale of an expert's scales has to be the same for gate and up. */
  readonly pairsGateAndUp: boolean;
  /** What `format` in the files' metadata says. */
  readonly fileFormat: "pt" | "mlx";
  /**
   * The storage whose names the layout extends: the one that is used, or another of the family's.
   * @throws UNSUPPORTED_OPERATION if other software does not read the family in this layout.
   */
  storage(model: Model, used: LayerTensors, others: readonly LayerTensors[]): LayerTensors;
  /** The tensors of a matrix, by what their names end in. May change the codes. */
  tensors(matrix: QuantizedBytes, rows: number, columns: number): Readonly<Record<string, SafetensorsInput>>;
  /** What `ending` follows in a tensor's name. */
  module(name: string): string;
  /** The fields that config.json gets. @param ignored the modules that stay floats. */
  configuration(ignored: readonly string[]): object;
}

/** Where a matrix is to be stored. */
export interface PackedMatrix {
  /** The name of the float tensor that it would be in, of its own or with others. */
  readonly target: string;
  /** The matrix's place in a tensor of all experts. */
  readonly stack?: { readonly experts: number; readonly expert: number; readonly part?: Part };
  readonly rows: number;
  readonly columns: number;
}

/** Adds the tensors of a matrix, or its rows to those of its stack. */
export function addMatrix(
  tensors: Map<string, SafetensorsInput>,
  layout: PackedLayout,
  { target, stack, rows, columns }: PackedMatrix,
  bytes: QuantizedBytes,
): void {
  for (const [ending, tensor] of Object.entries(layout.tensors(bytes, rows, columns))) {
    const name = `${layout.module(target)}${ending}`;
    if (stack === undefined) tensors.set(name, tensor);
    else {
      const whole = tensors.get(name) ?? emptyStack(tensor, stack);
      tensors.set(name, whole);
      copyRows(asBytes(tensor.data), asBytes(whole.data), rows, stack);
    }
  }
}

type Stack = NonNullable<PackedMatrix["stack"]>;

const matricesIn = ({ part }: Stack) => (part === undefined ? 1 : 2);

function emptyStack({ dtype, shape: [rows, ...rest], data }: SafetensorsInput, stack: Stack): SafetensorsInput {
  const count = matricesIn(stack);
  const shape = stackedShape([(rows as number) * count, ...rest], "dim0", stack.experts);
  return { dtype, shape, data: newBytes(data.byteLength * count * stack.experts) };
}

function copyRows(source: Uint8Array, whole: Uint8Array, rows: number, stack: Stack): void {
  const { part, expert } = stack;
  const width = source.byteLength / rows;
  const { offset, rowStride } = matrixPlace([rows, 1], part === undefined ? {} : { part });
  const first = expert * rows * matricesIn(stack) + offset;
  for (let row = 0; row < rows; row++) {
    whole.set(source.subarray(row * width, (row + 1) * width), (first + row * rowStride) * width);
  }
}
