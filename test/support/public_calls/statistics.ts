import { join } from "node:path";
import * as api from "../../../lib/index.js";
import { E, type Part, T, tensorsOf } from "./call.js";

/** Statistics and losses of routers, and their reports in `directory`. */
export async function statisticsCalls(device: api.Device, directory: string): Promise<Part> {
  const { floats, integers, logits, routing, tokenMask } = tensorsOf(device);
  const stats = new api.RouterStats(device, { numExperts: E });
  stats.record(logits, routing());
  const history = await stats.read();
  return {
    calls: [
      {
        name: "columnMeans",
        args: [logits],
        call: api.columnMeans,
        valid: [{ sequences: 2, square: true, tokenMask, out: floats(2, E) }],
      },
      {
        name: "columnMeansBackward",
        args: [logits, floats(2, E)],
        call: api.columnMeansBackward,
        valid: [{ square: true, tokenMask, out: floats(T, E) }],
      },
      {
        name: "expertTotals",
        args: [integers(T, 2)],
        call: api.expertTotals,
        valid: [
          {
            numExperts: E,
            weights: floats(T, 2),
            sequences: 2,
            choices: 1,
            tokenMask,
            out: { tokens: integers(2, E), dropped: integers(2), weights: floats(2, E) },
          },
        ],
      },
      {
        name: "expertTotalsBackward",
        args: [integers(T, 2), floats(2, E)],
        call: api.expertTotalsBackward,
        valid: [{ choices: 1, tokenMask, out: floats(T, 2) }],
      },
      { name: "readTotals", args: [integers(E, 2)], call: api.readTotals },
      { name: "cvSquared", args: [floats(E)], call: api.cvSquared, valid: [{ unbiased: true, epsilon: 1 }] },
      {
        name: "cvSquaredBackward",
        args: [floats(E)],
        call: api.cvSquaredBackward,
        valid: [{ unbiased: true, epsilon: 1, factor: 2, out: floats(E) }],
      },
      {
        name: "loadBalancingLoss",
        args: [logits, integers(T, 2)],
        call: api.loadBalancingLoss,
        valid: [{ scoring: "sigmoid", sequences: 2, choices: "first", normalization: "tokens", tokenMask }],
      },
      {
        name: "loadBalancingLossBackward",
        args: [logits, integers(T, 2)],
        call: api.loadBalancingLossBackward,
        valid: [
          {
            scoring: "sigmoid",
            sequences: 2,
            choices: "first",
            normalization: "tokens",
            tokenMask,
            factor: 0.01,
            out: floats(T, E),
          },
        ],
      },
      {
        name: "routerScores",
        args: [logits],
        call: api.routerScores,
        valid: [
          {
            scoring: "sigmoid",
            normalize: true,
            out: { scores: floats(T, E), logSumExp: floats(T), entropy: floats(T) },
          },
        ],
      },
      {
        name: "routerScoresBackward",
        args: [logits, { dScores: floats(T, E), dLogSumExp: floats(T), dEntropy: floats(T) }],
        call: api.routerScoresBackward,
        valid: [{ scoring: "sigmoid", normalize: true, out: floats(T, E) }],
      },
      { name: "zLoss", args: [logits], call: api.zLoss, valid: [{ tokenMask }] },
      {
        name: "zLossBackward",
        args: [logits],
        call: api.zLossBackward,
        valid: [{ tokenMask, factor: 2, out: floats(T, E) }],
      },
      {
        name: "routerStatistics",
        args: [logits, integers(T, 2)],
        call: api.routerStatistics,
        valid: [{ sequences: 2, tokenMask }],
      },
      { name: "maximumViolation", args: [floats(E)], call: api.maximumViolation },
      {
        name: "RouterStats",
        args: [device],
        call: (...args) => Reflect.construct(api.RouterStats, args),
        valid: [{ numExperts: E, windows: 4 }],
      },
      { name: "RouterStats.record", args: [logits, routing()], call: stats.record.bind(stats), valid: [{ tokenMask }] },
      { name: "heatMap", args: [history], call: api.heatMap, valid: [{ columns: 30, color: true }] },
      {
        name: "writeRouterReport",
        args: [[{ name: "layer 3", history, dtype: "bf16" }], join(directory, "report.html")],
        call: api.writeRouterReport,
        valid: [{ title: "Layer", date: "today", device: "cpu", about: "Tokens" }],
      },
    ],
  };
}
