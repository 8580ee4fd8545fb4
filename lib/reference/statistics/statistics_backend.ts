import type { ImbalanceMeasure, StatisticsBackend, StatisticsScoring } from "../../core/statistics_backend.js";
import type { Stream } from "../core/stream.js";
import type { ReferenceTensor } from "../core/tensor.js";
import { tokenMask } from "../core/token_mask.js";
import { accumulateFloats, accumulateIntegers, wideFloat, wideInteger } from "./accumulate.js";
import { expertTotals } from "./expert_totals.js";
import { balanceLoss, columnSums, imbalance, meansOf, updatedSelectionBias } from "./load_balance.js";
import { routerScores } from "./router_scores.js";

/** The router statistics of the `reference` device. */
export class ReferenceStatistics implements StatisticsBackend {
  readonly #stream: Stream;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  routerScores(
    logits: ReferenceTensor,
    scores: ReferenceTensor | null,
    logSumExp: ReferenceTensor | null,
    entropy: ReferenceTensor | null,
    scoring: StatisticsScoring,
    normalize: boolean,
  ): void {
    const result = routerScores(logits.matrix(), scoring, normalize);
    scores?.store(result.scores.values);
    logSumExp?.store(result.logSumExp);
    entropy?.store(result.entropy);
  }

  expertTotals(
    ids: ReferenceTensor,
    weights: ReferenceTensor | null,
    mask: ReferenceTensor | null,
    tokens: ReferenceTensor,
    dropped: ReferenceTensor,
    sums: ReferenceTensor | null,
    choices: number,
  ): void {
    const [sequences, numExperts] = tokens.shape as [number, number];
    const topK = ids.shape[1] as number;
    const counts = tokenMask(mask);
    const isChecked = (token: number, choice: number) => choice < choices && counts(token);
    const checked = this.#stream.checkIndices("expertTotals: ids", ids, "an expert", numExperts, isChecked);
    const result = expertTotals(checked, weights?.values(), { topK, choices, sequences, numExperts, counts });
    tokens.store(result.tokens);
    dropped.store(result.dropped);
    sums?.store(result.sums.values);
  }

  columnMeans(
    values: ReferenceTensor,
    mask: ReferenceTensor | null,
    means: ReferenceTensor,
    counts: ReferenceTensor | null,
    square: boolean,
    total: boolean,
  ): void {
    const sequences = means.shape[0] as number;
    const result = columnSums(values.matrix(), { sequences, square, counts: tokenMask(mask) });
    means.store(total ? result.sums.values : meansOf(result).values);
    counts?.store(result.rows);
  }

  balanceLoss(
    tokens: ReferenceTensor,
    means: ReferenceTensor,
    counts: ReferenceTensor,
    loss: ReferenceTensor,
    factor: number,
  ): void {
    loss.store(Float64Array.of(balanceLoss(tokens.integers(), means.matrix(), counts.integers(), factor)));
  }

  imbalance(values: ReferenceTensor, result: ReferenceTensor, measure: ImbalanceMeasure, epsilon: number): void {
    result.store(Float64Array.of(imbalance(values.values(), measure, epsilon)));
  }

  updateSelectionBias(bias: ReferenceTensor, tokens: ReferenceTensor, updated: ReferenceTensor, rate: number): void {
    updated.store(updatedSelectionBias(bias.values(), tokens.integers(), rate));
  }

  accumulate(values: ReferenceTensor, totals: ReferenceTensor, valuesAreTotals: boolean, factor: number): void {
    if (totals.dtype === "i32") {
      const added = values.integers();
      accumulateIntegers(totals.integers(), (index) =>
        valuesAreTotals ? wideInteger(added, index) : BigInt(added[index] as number),
      );
      return;
    }
    const [added, sums] = [values.values(), totals.values()];
    const round = totals.dtype === "f64" ? (value: number) => value : Math.fround;
    const valueAt = (index: number) => (valuesAreTotals ? wideFloat(added, index) : (added[index] as number));
    accumulateFloats(sums, (index) => factor * valueAt(index), round);
    totals.store(sums);
  }
}
