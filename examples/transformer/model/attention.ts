import {
  groupedGemm,
  groupedGemmBackward,
  groupedGemmWeightBackward,
  linear,
  linearBackward,
  permute,
  routerScores,
  routerScoresBackward,
  type Tensor,
} from "moe-kernels";
import type { HeadOrder } from "./head_order.js";
import { Weight, type WeightSource } from "./weights.js";

/** What the backward pass needs. */
interface Saved {
  readonly x: Tensor<"f32">;
  /** [3 rows, size]: turned queries and keys, and values, by head. */
  readonly heads: Tensor<"f32">;
  /** [rows, S]: before the softmax and after it. */
  readonly logits: Tensor<"f32">;
  readonly shares: Tensor<"f32">;
  /** [T, H]: what the last product multiplied. */
  readonly merged: Tensor<"f32">;
}

/**
 * Attention of several heads with rotary positions. Everything is an operator of the package: every head of every sequence is
 * an expert of a grouped GEMM, whose weights are its keys or its values, and whose softmax is that of routers; RoPE is a
 * grouped GEMM whose experts are the positions, each with its rotation.
 */
export class Attention {
  readonly hiddenSize: number;
  readonly heads: number;
  /** [3H, H]: queries, keys and values; and [H, H]. */
  readonly project: Weight;
  readonly output: Weight;
  #saved: Saved | undefined;

  constructor(source: WeightSource, name: string, hiddenSize: number, heads: number, outputDeviation: number) {
    this.hiddenSize = hiddenSize;
    this.heads = heads;
    const shape = [3 * hiddenSize, hiddenSize];
    this.project = new Weight(`${name}.project`, source.take(`${name}.project`, shape, 0.02));
    const output = source.take(`${name}.output`, [hiddenSize, hiddenSize], outputDeviation);
    this.output = new Weight(`${name}.output`, output);
  }

  get weights(): Weight[] {
    return [this.project, this.output];
  }

  get #size(): number {
    return this.hiddenSize / this.heads;
  }

  /** @param x [T, H]; with `save` not to be disposed of before the backward pass. @returns y [T, H]. */
  forward(x: Tensor<"f32">, order: HeadOrder, save: boolean): Tensor<"f32"> {
    const [size, { rows }] = [this.#size, order];
    using projected = linear(x, this.project.value);
    using parts = projected.reshape([3 * rows, size]);
    const heads = x.device.empty([3 * rows, size], "f32");
    using turned = groupedGemm(parts, order.rotations, order.positionOffsets, {
      tokenOfRow: order.projectedOfPosition,
    });
    using queriesAndKeys = heads.rows(0, 2 * rows);
    permute(turned, order.positionOfHead, { out: queriesAndKeys });
    using values = heads.rows(2 * rows, 3 * rows);
    permute(parts, order.projectedOfValue, { out: values });

    const logits = this.#logits(heads, order);
    const { scores: shares, logSumExp, entropy } = routerScores(logits);
    logSumExp.dispose();
    entropy.dispose();
    using valueMatrices = matrices(values, order);
    using seen = groupedGemm(shares, valueMatrices, order.headOffsets, { transpose: true });
    using mergedParts = permute(seen, order.headOfMerged);
    const merged = mergedParts.reshape(x.shape);
    const y = linear(merged, this.output.value);
    if (save) this.#saved = { x, heads, logits, shares, merged };
    else for (const tensor of [heads, logits, shares, merged]) tensor.dispose();
    return y;
  }

  /** Products of queries and keys [rows, S], masked where a token must not see another. */
  #logits(heads: Tensor<"f32">, order: HeadOrder): Tensor<"f32"> {
    const { rows, mask, headOffsets } = order;
    using queries = heads.rows(0, rows);
    using keys = heads.rows(rows, 2 * rows);
    using keyMatrices = matrices(keys, order);
    if (mask === undefined) return groupedGemm(queries, keyMatrices, headOffsets);
    groupedGemm(queries, keyMatrices, headOffsets, { out: mask.products });
    return mask.apply();
  }

  /** @returns dx [T, H]. */
  backward(dy: Tensor<"f32">, order: HeadOrder): Tensor<"f32"> {
    if (this.#saved === undefined)
      throw new Error("attention: expected a forward that saves before backward, got none");
    const { x, heads, logits, shares, merged } = this.#saved;
    this.#saved = undefined;
    const { device } = x;
    const [size, { rows, headOffsets }] = [this.#size, order];
    using dMerged = device.empty(x.shape, "f32");
    linearBackward(merged, this.output.value, dy, { out: { dx: dMerged, dWeight: this.output.gradient } });
    using dMergedParts = dMerged.reshape([rows, size]);
    using dSeen = permute(dMergedParts, order.mergedOfHead);

    // Queries and keys by position, then values by head.
    using dTurned = device.empty([3 * rows, size], "f32");
    using dValues = dTurned.rows(2 * rows, 3 * rows);
    using dValueMatrices = matrices(dValues, order);
    groupedGemmWeightBackward(dSeen, shares, headOffsets, { out: { dWeight: dValueMatrices } });
    using values = heads.rows(2 * rows, 3 * rows);
    using valueMatrices = matrices(values, order);
    using dShares = groupedGemm(dSeen, valueMatrices, headOffsets);
    using dLogits = routerScoresBackward(logits, { dScores: dShares });

    using dHeads = device.empty([2 * rows, size], "f32");
    using dQueries = dHeads.rows(0, rows);
    using dKeys = dHeads.rows(rows, 2 * rows);
    using dKeyMatrices = matrices(dKeys, order);
    using queries = heads.rows(0, rows);
    using keys = heads.rows(rows, 2 * rows);
    using keyMatrices = matrices(keys, order);
    groupedGemmBackward(queries, keyMatrices, headOffsets, dLogits, { out: { dx: dQueries, dWeight: dKeyMatrices } });
    using dQueriesAndKeys = dTurned.rows(0, 2 * rows);
    groupedGemm(dHeads, order.inverseRotations, order.positionOffsets, {
      tokenOfRow: order.headOfPosition,
      out: dQueriesAndKeys,
    });
    using dParts = permute(dTurned, order.gradientOfProjected);
    using dProjected = dParts.reshape([x.shape[0], 3 * this.hiddenSize]);
    const dx = device.empty(x.shape, "f32");
    linearBackward(x, this.project.value, dProjected, { out: { dx, dWeight: this.project.gradient } });
    for (const tensor of [heads, logits, shares, merged]) tensor.dispose();
    return dx;
  }
}

/** Rows by head as the matrices [B · heads, S, size] of a grouped GEMM. */
function matrices(rows: Tensor<"f32">, { headOffsets }: HeadOrder): Tensor<"f32"> {
  const experts = headOffsets.size - 1;
  return rows.reshape([experts, rows.shape[0] / experts, rows.shape[1]]);
}
