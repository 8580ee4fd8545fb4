import { gateUpRows } from "../../core/layer/activation.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { groupedGemmWeightBackward } from "../../operators/experts/grouped_gemm_weight_backward.js";
import { type Draw, sortedRows } from "./draw.js";
import type { OperatorCase, Sizes } from "./operator_case.js";

function rowsOf(draw: Draw, { tokens, topK, numExperts }: Sizes) {
  return sortedRows(draw.routing(tokens, topK, numExperts).ids, numExperts);
}

function gateUpRowsOf({ description, intermediateSize }: Sizes): number {
  return gateUpRows(description.activation, intermediateSize);
}

/** The products of a layer, and the gradients of their weights. */
export const productCases: readonly OperatorCase[] = [
  {
    operator: "groupedGemm",
    name: "groupedGemm gate_up",
    inputs: (draw, sizes) => {
      const { offsets, tokenOfRow } = rowsOf(draw, sizes);
      return { x: draw.normals([sizes.tokens, sizes.hiddenSize], sizes.dtype), offsets, tokenOfRow };
    },
    outputs: ({ rows, intermediateSize, dtype }) => ({ y: { shape: [rows, intermediateSize], dtype } }),
    weights: (sizes) => ({ rows: gateUpRowsOf(sizes), columns: sizes.hiddenSize, activates: true }),
    operations: (sizes) => 2 * sizes.rows * sizes.hiddenSize * gateUpRowsOf(sizes),
    call:
      () =>
      ({ x, weight, offsets, tokenOfRow }, { y }) =>
        void groupedGemm(x, weight, offsets, { tokenOfRow, out: y }),
  },
  {
    operator: "groupedGemm",
    name: "groupedGemm down",
    inputs: (draw, sizes) => ({
      x: draw.normals([sizes.rows, sizes.intermediateSize], sizes.dtype),
      offsets: rowsOf(draw, sizes).offsets,
    }),
    outputs: ({ rows, hiddenSize, dtype }) => ({ y: { shape: [rows, hiddenSize], dtype } }),
    weights: ({ hiddenSize, intermediateSize }) => ({ rows: hiddenSize, columns: intermediateSize, activates: false }),
    operations: ({ rows, hiddenSize, intermediateSize }) => 2 * rows * hiddenSize * intermediateSize,
    call:
      () =>
      ({ x, weight, offsets }, { y }) =>
        void groupedGemm(x, weight, offsets, { out: y }),
  },
  {
    operator: "groupedGemmWeightBackward",
    name: "groupedGemmWeightBackward",
    inputs: (draw, sizes) => ({
      x: draw.normals([sizes.rows, sizes.intermediateSize], sizes.dtype),
      dy: draw.normals([sizes.rows, sizes.hiddenSize], sizes.dtype),
      offsets: rowsOf(draw, sizes).offsets,
      accumulate: false,
    }),
    outputs: ({ numExperts, hiddenSize, intermediateSize }) => ({
      dWeight: { shape: [numExperts, hiddenSize, intermediateSize], dtype: "f32" },
    }),
    operations: ({ rows, hiddenSize, intermediateSize }) => 2 * rows * hiddenSize * intermediateSize,
    call:
      () =>
      ({ x, dy, offsets }, { dWeight }) =>
        void groupedGemmWeightBackward(x, dy, offsets, { out: { dWeight } }),
  },
];
