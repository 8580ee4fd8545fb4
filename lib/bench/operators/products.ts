import { gateUpRows } from "../../layer/description/config.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { groupedGemmWeightBackward } from "../../operators/experts/grouped_gemm_weight_backward.js";
import { type Draw, sortedRows } from "./draw.js";
import type { OperatorCase, Sizes } from "./operator_case.js";

function rowsOf(draw: Draw, { tokens, topK, numExperts }: Sizes) {
  return sortedRows(draw.routing(tokens, topK, numExperts).ids, numExperts);
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
    weights: ({ description, hiddenSize }) => ({ rows: gateUpRows(description), columns: hiddenSize, activates: true }),
    operations: ({ rows, hiddenSize, description }) => 2 * rows * hiddenSize * gateUpRows(description),
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
