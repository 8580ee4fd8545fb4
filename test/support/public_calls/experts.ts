import * as api from "../../../lib/index.js";
import { E, H, type Part, T, tensorsOf } from "./call.js";

/** Rows, products, activations and quantised weights. */
export function expertCalls(device: api.Device): Part {
  const { floats, integers } = tensorsOf(device);
  return {
    calls: [
      { name: "permute", args: [floats(T, H), integers(5)], call: api.permute, valid: [{ out: floats(5, H) }] },
      {
        name: "permuteBackward",
        args: [floats(5, H), integers(T, 2)],
        call: api.permuteBackward,
        valid: [{ out: floats(T, H) }],
      },
      {
        name: "unpermute",
        args: [floats(5, H), integers(T, 2)],
        call: api.unpermute,
        valid: [{ out: floats(T, 2, H) }],
      },
      {
        name: "activate",
        args: [floats(5, 4)],
        call: api.activate,
        valid: [
          {
            activation: "swiglu_clamped",
            clamp: { limit: 2, upLimit: 3 },
            shared: { clamp: { limit: 1 }, offsets: integers(2), experts: 1 },
            multiplier: floats(5, 2),
            out: floats(5, 2),
          },
        ],
      },
      {
        name: "activationBackward",
        args: [floats(5, 4), floats(5, 2)],
        call: api.activationBackward,
        valid: [
          {
            activation: "swiglu_clamped",
            clamp: { alpha: 1, limit: 2, offset: 3 },
            shared: { clamp: {}, offsets: integers(3), experts: 1 },
            multiplier: floats(5, 2),
            inner: true,
            out: { dPre: floats(5, 4), dMultiplier: floats(5, 2), inner: floats(5, 2) },
          },
        ],
      },
      {
        name: "combine",
        args: [floats(5, H), integers(T, 2), floats(T, 2)],
        call: api.combine,
        valid: [{ residual: floats(T, H), out: floats(T, H) }],
      },
      {
        name: "combineBackward",
        args: [floats(5, H), integers(T, 1), floats(T, 1), floats(T, H)],
        call: api.combineBackward,
        valid: [{ out: { dRows: floats(5, H), dWeights: floats(T, 1) } }, { want: "dRows" }],
      },
      {
        name: "rmsNorm",
        args: [floats(T, H), floats(H)],
        call: api.rmsNorm,
        valid: [{ epsilon: 1e-5, offset: 1, out: floats(T, H) }],
      },
      {
        name: "rmsNormBackward",
        args: [floats(T, H), floats(H), floats(T, H)],
        call: api.rmsNormBackward,
        valid: [
          { epsilon: 1e-5, offset: 1, residual: floats(T, H), out: { dx: floats(T, H), dWeight: floats(H) } },
          { want: "dx" },
        ],
      },
      {
        name: "packExperts",
        args: [floats(E, 4, H)],
        call: api.packExperts,
        valid: [{ activation: "swiglu_clamped", clamp: { alpha: 1, limit: 2, offset: 3 } }, { transpose: true }],
      },
      {
        name: "groupedGemm",
        args: [floats(T, H), floats(E, 4, H), integers(E + 1)],
        call: api.groupedGemm,
        valid: [
          {
            activation: "swiglu_clamped",
            clamp: { limit: 2 },
            tokenOfRow: integers(5),
            bias: floats(E, 4),
            out: floats(5, 2),
          },
        ],
      },
      {
        name: "groupedGemmBackward",
        args: [floats(T, H), floats(E, 4, H), integers(E + 1), floats(5, 4)],
        call: api.groupedGemmBackward,
        valid: [
          {
            tokenOfRow: integers(5),
            bias: true,
            accumulate: true,
            out: { dx: floats(5, H), dWeight: floats(E, 4, H), dBias: floats(E, 4) },
          },
        ],
      },
      {
        name: "groupedGemmWeightBackward",
        args: [floats(T, H), floats(5, 4), integers(E + 1)],
        call: api.groupedGemmWeightBackward,
        valid: [
          {
            tokenOfRow: integers(5),
            bias: true,
            accumulate: true,
            out: { dWeight: floats(E, 4, H), dBias: floats(E, 4) },
          },
        ],
      },
      {
        name: "linear",
        args: [floats(T, H), floats(4, H)],
        call: api.linear,
        valid: [
          {
            bias: floats(4),
            activation: "swiglu_clamped",
            clamp: { alpha: 1, limit: 2, offset: 0 },
            out: floats(T, 2),
          },
        ],
      },
      {
        name: "linearBackward",
        args: [floats(T, H), floats(4, H), floats(T, 4)],
        call: api.linearBackward,
        valid: [
          { bias: true, accumulate: true, out: { dx: floats(T, H), dWeight: floats(4, H), dBias: floats(4) } },
          { bias: false },
        ],
      },
      { name: "cast", args: [floats(T, H)], call: api.cast, valid: [{ dtype: "f32", out: floats(T, H) }] },
      { name: "quantize", args: [floats(4, 32), "int4_g32"], call: api.quantize, valid: [{ scale: "least_squares" }] },
      {
        name: "dequantize",
        args: [api.quantize(floats(4, 32), "int4_g32")],
        call: api.dequantize,
        valid: [{ dtype: "f32", out: floats(4, 32) }],
      },
      {
        name: "quantizationError",
        args: [floats(4, 32), api.quantize(floats(4, 32), "int4_g32")],
        call: api.quantizationError,
        valid: [{ out: floats(1) }],
      },
      { name: "accumulate", args: [floats(T, 2), floats(T)], call: api.accumulate, valid: [{ scale: 2 }] },
    ],
  };
}
