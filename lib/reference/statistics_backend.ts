import type { ImbalanceMeasure, StatisticsBackend, StatisticsScoring } from "../statistics_backend.js";
import { accumulateFloats, accumulateIntegers, wideFloat, wideInteger } from "./accumulate.js";
import { expertTotals } from "./expert_totals.js";
import { balanceLoss, columnMeans, imbalance, updatedSelectionBias } from "./load_balance.js";
import { routerScores } from "./router_scores.js";
import type { Stream } from "./stream.js";
import type { ReferenceTensor } from "./tensor.js";

/** The part of the `reference` device that measures routers. */
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
    tokens: ReferenceTensor,
    dropped: ReferenceTensor,
    sums: ReferenceTensor | null,
    choices: number,
  ): void {
    const [sequences, numExperts] = tokens.shape as [number, number];
    const topK = ids.shape[1] as number;
    const checked = this.#stream.checkIndices("expertTotals: ids", ids, "an expert", numExperts, choices);
    const result = expertTotals(checked, weights?.values(), { topK, choices, sequences, numExperts });
    tokens.store(result.tokens);
    dropped.store(result.dropped);
    sums?.store(result.sums.values);
  }

  columnMeans(values: ReferenceTensor, means: ReferenceTensor, square: boolean): void {
    means.store(columnMeans(values.matrix(), means.shape[0] as number, square).values);
  }

  balanceLoss(tokens: ReferenceTensor, means: ReferenceTensor, loss: ReferenceTensor, factor: number): void {
    loss.store(Float64Array.of(balanceLoss(tokens.integers(), means.values(), factor)));
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
