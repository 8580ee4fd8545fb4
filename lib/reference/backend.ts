import type { Activation, Backend, Clamp, LayerDescription, StridedMatrix, Warnings } from "../core/backend.js";
import type { DType } from "../core/dtype.js";
import { MoeError } from "../core/errors.js";
import type { Distribution } from "../core/noise_backend.js";
import type { CapacityLimit, ExpertScoring, Gating } from "../core/routing_rule.js";
import { type Shape, shapeSize } from "../core/shape.js";
import type { WeightFormatName } from "../core/weight_format.js";
import { Stream } from "./core/stream.js";
import { ReferenceTensor, readMatrix } from "./core/tensor.js";
import { type CountsToken, tokenMask } from "./core/token_mask.js";
import { combine } from "./experts/combine.js";
import { groupedGemm } from "./experts/grouped_gemm.js";
import { ReferencePackedExperts } from "./experts/packed_experts.js";
import { gather } from "./experts/permute.js";
import { ReferenceLayer } from "./layer/layer_handle.js";
import { type ChosenGroups, expertLoad, noisyLogits } from "./noise/noisy_top_k.js";
import { randomNumbers } from "./noise/random.js";
import { expertSlots, limitCapacity } from "./routing/capacity.js";
import { expertChoice } from "./routing/expert_choice.js";
import { gating } from "./routing/gating.js";
import { hierarchicalGating } from "./routing/hierarchical_gating.js";
import { routerProjection } from "./routing/router_projection.js";
import { sort } from "./routing/sort.js";
import { ReferenceStatistics } from "./statistics/statistics_backend.js";

/**
 * The `reference` device: every operator by its formula, in float64 and plain loops. Work is done at the call; outputs
 * are rounded to their dtype, and errors found in the data wait for the next wait as on every device.
 */
export class ReferenceBackend extends ReferenceStatistics implements Backend {
  readonly kind = "reference";
  readonly description = "pure TypeScript, float64 inside; the definition of every operator";
  readonly weightLayout = "";
  readonly #stream: Stream;
  readonly #poison: boolean;

  constructor({ poison = false }: { readonly poison?: boolean }) {
    const stream = new Stream();
    super(stream);
    this.#stream = stream;
    this.#poison = poison;
  }

  empty(dtype: DType, shape: Shape): ReferenceTensor {
    const tensor = ReferenceTensor.allocate(this.#stream, dtype, shape);
    if (this.#poison) tensor.map().fill(0xff);
    return tensor;
  }

  async synchronize(): Promise<void> {
    this.#stream.wait();
  }

  synchronizeSync(): void {
    this.#stream.wait();
  }

  warnings(): Warnings {
    return { nonFiniteLogitRows: this.#stream.nonFiniteLogitRows };
  }

  close(): void {}

  routerProjection(
    x: ReferenceTensor,
    weight: ReferenceTensor,
    bias: ReferenceTensor | null,
    logits: ReferenceTensor,
  ): void {
    logits.store(routerProjection(x.matrix(), weight.matrix(), bias?.values()).values);
  }

  gating(
    logits: ReferenceTensor,
    selectionBias: ReferenceTensor | null,
    ids: ReferenceTensor,
    weights: ReferenceTensor,
    rule: Gating,
  ): void {
    const result = gating(logits.matrix(), rule, selectionBias?.values());
    this.#stream.nonFiniteLogitRows += result.nonFiniteRows;
    ids.store(result.ids);
    weights.store(result.weights.values);
  }

  limitCapacity(
    ids: ReferenceTensor,
    weights: ReferenceTensor,
    keptIds: ReferenceTensor,
    keptWeights: ReferenceTensor,
    numExperts: number,
    limit: CapacityLimit,
  ): void {
    const chosen = this.#stream.checkIndices("limitCapacity: ids", ids, "an expert", numExperts);
    const kept = limitCapacity(chosen, weights.matrix(), numExperts, limit);
    keptIds.store(kept.ids);
    keptWeights.store(kept.weights.values);
  }

  expertSlots(ids: ReferenceTensor, slots: ReferenceTensor): void {
    const [numExperts, capacity] = slots.shape as [number, number];
    const chosen = this.#stream.checkIndices("expertSlots: ids", ids, "an expert", numExperts);
    slots.store(expertSlots(chosen, numExperts, capacity));
  }

  expertChoice(
    logits: ReferenceTensor,
    tokens: ReferenceTensor,
    tokenWeights: ReferenceTensor,
    ids: ReferenceTensor,
    weights: ReferenceTensor,
    scoring: ExpertScoring,
  ): void {
    const result = expertChoice(logits.matrix(), tokens.shape[1] as number, scoring);
    this.#stream.nonFiniteLogitRows += result.nonFiniteRows;
    tokens.store(result.tokens);
    tokenWeights.store(result.tokenWeights.values);
    ids.store(result.ids);
    weights.store(result.weights.values);
  }

  hierarchicalGating(
    groupLogits: ReferenceTensor,
    logits: ReferenceTensor,
    ids: ReferenceTensor,
    weights: ReferenceTensor,
    groups: Gating,
    experts: Gating,
  ): void {
    const result = hierarchicalGating(groupLogits.matrix(), logits.matrix(), groups, experts);
    this.#stream.nonFiniteLogitRows += result.nonFiniteRows;
    ids.store(result.ids);
    weights.store(result.weights.values);
  }

  sort(
    ids: ReferenceTensor,
    offsets: ReferenceTensor,
    tokensPerExpert: ReferenceTensor,
    tokenOfRow: ReferenceTensor,
    rowOfSlot: ReferenceTensor,
  ): void {
    const [topK, numExperts] = [ids.shape[1] as number, tokensPerExpert.shape[0] as number];
    const result = sort(this.#stream.checkIndices("sort: ids", ids, "an expert", numExperts), topK, numExperts);
    offsets.store(result.offsets);
    tokensPerExpert.store(result.tokensPerExpert);
    tokenOfRow.store(result.tokenOfRow);
    rowOfSlot.store(result.rowOfSlot);
  }

  permute(x: ReferenceTensor, tokenOfRow: ReferenceTensor, rows: ReferenceTensor): void {
    const source = x.matrix();
    const indices = this.#stream.checkIndices("permute: tokenOfRow", tokenOfRow, "a row", source.rows);
    rows.store(gather(source, indices).values);
  }

  unpermute(rows: ReferenceTensor, rowOfSlot: ReferenceTensor, slots: ReferenceTensor): void {
    const source = rows.matrix();
    const indices = this.#stream.checkIndices("unpermute: rowOfSlot", rowOfSlot, "a row", source.rows);
    slots.store(gather(source, indices).values);
  }

  groupedGemm(
    x: ReferenceTensor,
    weight: ReferencePackedExperts,
    bias: ReferenceTensor | null,
    offsets: ReferenceTensor,
    tokenOfRow: ReferenceTensor | null,
    y: ReferenceTensor,
  ): void {
    const source = x.matrix();
    const rows = y.shape[0] as number;
    const ranges = this.#stream.checkOffsets("groupedGemm: offsets", offsets, rows);
    const tokens = tokenOfRow
      ? this.#stream.checkIndices("groupedGemm: tokenOfRow", tokenOfRow, "a row", source.rows)
      : undefined;
    y.store(groupedGemm(source, weight, bias?.matrix(), ranges, tokens).values);
  }

  combine(rows: ReferenceTensor, rowOfSlot: ReferenceTensor, weights: ReferenceTensor, y: ReferenceTensor): void {
    const source = rows.matrix();
    const indices = this.#stream.checkIndices("combine: rowOfSlot", rowOfSlot, "a row", source.rows);
    y.store(combine(source, indices, weights.matrix()).values);
  }

  random(seed: bigint, offset: number, distribution: Distribution, values: ReferenceTensor): void {
    values.store(randomNumbers(seed, offset, shapeSize(values.shape), distribution));
  }

  jitter(x: ReferenceTensor, seed: bigint, epsilon: number, y: ReferenceTensor): void {
    const uniform = randomNumbers(seed, 0, shapeSize(x.shape), "uniform");
    y.store(x.values().map((value, index) => value * (1 + epsilon * (2 * (uniform[index] as number) - 1))));
  }

  noisyLogits(
    clean: ReferenceTensor,
    spread: ReferenceTensor,
    noise: ReferenceTensor,
    epsilon: number,
    logits: ReferenceTensor,
    deviation: ReferenceTensor,
  ): void {
    const result = noisyLogits(clean.values(), spread.values(), noise.values(), epsilon);
    logits.store(result.logits);
    deviation.store(result.deviation);
  }

  expertLoad(
    clean: ReferenceTensor,
    noisy: ReferenceTensor,
    deviation: ReferenceTensor,
    mask: ReferenceTensor | null,
    topK: number,
    groupIds: ReferenceTensor | null,
    groupLoad: ReferenceTensor | null,
    load: ReferenceTensor,
  ): void {
    const counts = tokenMask(mask);
    const groups = groupIds && groupLoad ? this.#chosenGroups(groupIds, groupLoad, counts) : undefined;
    const logits = { clean: clean.matrix(), noisy: noisy.matrix(), deviation: deviation.matrix() };
    load.store(expertLoad(logits, topK, counts, groups));
  }

  #chosenGroups(groupIds: ReferenceTensor, groupLoad: ReferenceTensor, counts: CountsToken): ChosenGroups {
    const load = groupLoad.values();
    const ids = this.#stream.checkIndices("expertLoad: groups.ids", groupIds, "a group", load.length, counts);
    return { count: load.length, ids, load };
  }

  copyMatrix(source: StridedMatrix, target: ReferenceTensor): void {
    target.store(readMatrix(source, source.rows, source.columns).values);
  }

  packedExperts(
    numExperts: number,
    rows: number,
    columns: number,
    format: WeightFormatName,
    activation: Activation,
    clamp: Clamp,
  ): ReferencePackedExperts {
    return new ReferencePackedExperts(this.#stream, [numExperts, rows, columns], format, activation, clamp);
  }

  layer(description: LayerDescription): ReferenceLayer {
    return new ReferenceLayer(this.#stream, description);
  }

  mapFile(): never {
    throw new MoeError("UNSUPPORTED_OPERATION", "mapFile: reference computes with weights in JavaScript's memory only");
  }
}
