import { gateUpRows } from "../../core/layer/activation.js";
import { activate } from "../../operators/experts/activate.js";
import { activationBackward } from "../../operators/experts/activation_backward.js";
import { activationOf } from "../../operators/experts/activation_options.js";
import { combine } from "../../operators/experts/combine.js";
import { combineBackward } from "../../operators/experts/combine_backward.js";
import { permute, unpermute } from "../../operators/experts/permute.js";
import { rmsNorm } from "../../operators/experts/rms_norm.js";
import { type Draw, sortedRows } from "./draw.js";
import { f32, type OperatorCase, type Sizes } from "./operator_case.js";

/** A routing, and where its rows are. */
function routed(draw: Draw, { tokens, topK, numExperts }: Sizes) {
  const routing = draw.routing(tokens, topK, numExperts);
  return { ...routing, ...sortedRows(routing.ids, numExperts) };
}

/** Values before the activation, and what devices are told of it. */
function activations(draw: Draw, { rows, intermediateSize, dtype, description }: Sizes) {
  const { activation, clamp } = description;
  const columns = gateUpRows(activation, intermediateSize);
  const own = { activation, clamp, sharedClamp: clamp, sharedExperts: 0 };
  return { pre: draw.normals([rows, columns], dtype), ...own };
}

const normNumbers = { epsilon: 1e-5, offset: 0 };

/** Tokens and the weight of their norm. */
function normed(draw: Draw, { tokens, hiddenSize, dtype }: Sizes) {
  return { x: draw.normals([tokens, hiddenSize], dtype), weight: draw.normals([hiddenSize], dtype) };
}

/** Moves rows to the experts and back, and what happens to them between the products. */
export const expertsCases: readonly OperatorCase[] = [
  {
    operator: "permute",
    name: "permute",
    inputs: (draw, sizes) => ({
      x: draw.normals([sizes.tokens, sizes.hiddenSize], sizes.dtype),
      tokenOfRow: routed(draw, sizes).tokenOfRow,
    }),
    outputs: ({ rows, hiddenSize, dtype }) => ({ rows: { shape: [rows, hiddenSize], dtype } }),
    call:
      () =>
      ({ x, tokenOfRow }, { rows }) =>
        void permute(x, tokenOfRow, { out: rows }),
  },
  {
    operator: "unpermute",
    name: "unpermute",
    inputs: (draw, sizes) => ({
      rows: draw.normals([sizes.rows, sizes.hiddenSize], sizes.dtype),
      rowOfSlot: routed(draw, sizes).rowOfSlot,
    }),
    outputs: ({ tokens, topK, hiddenSize, dtype }) => ({ slots: { shape: [tokens, topK, hiddenSize], dtype } }),
    call:
      () =>
      ({ rows, rowOfSlot }, { slots }) =>
        void unpermute(rows, rowOfSlot, { out: slots }),
  },
  {
    operator: "activate",
    name: "activate",
    inputs: activations,
    outputs: ({ rows, intermediateSize, dtype }) => ({ inner: { shape: [rows, intermediateSize], dtype } }),
    call:
      ({ description }) =>
      ({ pre }, { inner }) =>
        void activate(pre, { ...activationOf(description), out: inner }),
  },
  {
    operator: "activationBackward",
    name: "activationBackward",
    inputs: (draw, sizes) => ({
      ...activations(draw, sizes),
      dInner: draw.normals([sizes.rows, sizes.intermediateSize], sizes.dtype),
    }),
    outputs: ({ rows, intermediateSize, dtype, description }) => {
      const columns = gateUpRows(description.activation, intermediateSize);
      return { dPre: { shape: [rows, columns], dtype }, inner: { shape: [rows, intermediateSize], dtype } };
    },
    call:
      ({ description }) =>
      ({ pre, dInner }, { dPre, inner }) =>
        void activationBackward(pre, dInner, { ...activationOf(description), inner: true, out: { dPre, inner } }),
  },
  {
    operator: "combine",
    name: "combine",
    inputs: (draw, sizes) => {
      const { rowOfSlot, weights } = routed(draw, sizes);
      return { rows: draw.normals([sizes.rows, sizes.hiddenSize], sizes.dtype), rowOfSlot, weights };
    },
    outputs: ({ tokens, hiddenSize, dtype }) => ({ y: { shape: [tokens, hiddenSize], dtype } }),
    operations: ({ rows, hiddenSize }) => 2 * rows * hiddenSize,
    call:
      () =>
      ({ rows, rowOfSlot, weights }, { y }) =>
        void combine(rows, rowOfSlot, weights, { out: y }),
  },
  {
    operator: "combineBackward",
    name: "combineBackward",
    inputs: (draw, sizes) => {
      const { rowOfSlot, weights } = routed(draw, sizes);
      const { tokens, hiddenSize, dtype } = sizes;
      const rows = draw.normals([sizes.rows, hiddenSize], dtype);
      return { rows, rowOfSlot, weights, dy: draw.normals([tokens, hiddenSize], dtype, hiddenSize ** -0.5) };
    },
    outputs: ({ tokens, topK, rows, hiddenSize, dtype }) => ({
      dRows: { shape: [rows, hiddenSize], dtype },
      dWeights: f32(tokens, topK),
    }),
    operations: ({ rows, hiddenSize }) => 3 * rows * hiddenSize,
    call:
      () =>
      ({ rows, rowOfSlot, weights, dy }, { dRows, dWeights }) =>
        void combineBackward(rows, rowOfSlot, weights, dy, { out: { dRows, dWeights } }),
  },
  {
    operator: "copyMatrix",
    name: "copyMatrix",
    inputs: (draw, { intermediateSize, hiddenSize, dtype }) => ({
      source: draw.normals([intermediateSize, hiddenSize], dtype),
    }),
    outputs: ({ intermediateSize, hiddenSize, dtype }) => ({
      target: { shape: [intermediateSize, hiddenSize], dtype },
    }),
    call:
      ({ intermediateSize: rows, hiddenSize: columns }) =>
      ({ source }, { target }, { backend }) =>
        backend.copyMatrix({
          source: { handle: source.handle, rows, columns, rowStride: columns, columnStride: 1 },
          target: target.handle,
        }),
  },
  {
    operator: "rmsNorm",
    name: "rmsNorm",
    inputs: (draw, sizes) => ({ ...normed(draw, sizes), ...normNumbers }),
    outputs: ({ tokens, hiddenSize, dtype }) => ({ y: { shape: [tokens, hiddenSize], dtype } }),
    call:
      () =>
      ({ x, weight }, { y }) =>
        void rmsNorm(x, weight, { ...normNumbers, out: y }),
  },
  {
    operator: "rmsNormBackward",
    name: "rmsNormBackward",
    inputs: (draw, sizes) => ({
      ...normed(draw, sizes),
      dy: draw.normals([sizes.tokens, sizes.hiddenSize], sizes.dtype),
      ...normNumbers,
    }),
    outputs: ({ tokens, hiddenSize, dtype }) => ({
      dx: { shape: [tokens, hiddenSize], dtype },
      terms: f32(tokens, hiddenSize),
    }),
    call:
      () =>
      ({ x, weight, dy }, { dx, terms }, { backend }) =>
        backend.rmsNormBackward({
          ...{ x: x.handle, weight: weight.handle, dy: dy.handle },
          ...{ dx: dx.handle, terms: terms.handle, ...normNumbers },
        }),
  },
];
