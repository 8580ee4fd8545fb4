import { expect } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { OffloadOptions } from "../../lib/layer/offload.js";
import { OffloadBudget, type OffloadBudgetOptions } from "../../lib/layer/offload_budget.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import type { Random } from "../../lib/testing/inputs/random.js";
import { type LayerProblem, RandomLayer } from "./random_layer.js";

/** Layers of one problem, each with weights of its own, that share a budget, beside layers whose experts are all resident. */
export class BudgetLayers implements Disposable {
  readonly budget: OffloadBudget;
  readonly wholes: readonly RandomLayer[];
  readonly layers: (MoeLayer | undefined)[];
  readonly #options: OffloadOptions;

  constructor(
    device: Device,
    problem: LayerProblem,
    count: number,
    budget: OffloadBudgetOptions,
    options: OffloadOptions = {},
  ) {
    this.budget = new OffloadBudget(device, budget);
    this.wholes = Array.from(
      { length: count },
      (_, i) => new RandomLayer(device, { ...problem, seed: problem.seed + i }),
    );
    this.#options = options;
    this.layers = this.wholes.map((_, index) => this.create(index));
  }

  /** A layer of the budget with the weights of layer `index`. */
  create(index: number): MoeLayer {
    return MoeLayer.create({ ...this.whole(index).options, offload: { ...this.#options, budget: this.budget } });
  }

  whole(index: number): RandomLayer {
    return this.wholes[index] as RandomLayer;
  }

  layer(index: number): MoeLayer {
    return this.layers[index] as MoeLayer;
  }

  /** Expects the bits of the resident layer for tokens drawn from `random`. */
  expectSame(index: number, random: Random, tokens: number): void {
    const { layer, x: sample } = this.whole(index);
    const { hiddenSize } = layer.description;
    using x = layer.device.tensor(random.normals(tokens * hiddenSize), [tokens, hiddenSize], sample.dtype);
    using y = this.layer(index).forward(x);
    using expected = layer.forward(x);
    expect(y.rawSync()).toEqual(expected.rawSync());
  }

  /** Expects the same of a replay. */
  expectSameReplay(index: number, captured: ReturnType<MoeLayer["capture"]>, random: Random): void {
    const values = random.normals(captured.x.size);
    captured.x.write(values);
    captured.replay();
    const { layer } = this.whole(index);
    using x = layer.device.tensor(values, captured.x.shape, captured.x.dtype);
    using expected = layer.forward(x);
    expect(captured.y.rawSync()).toEqual(expected.rawSync());
  }

  /** Expects the budget's statistics to be the sums of its layers', if none was disposed of, within the limit. */
  async expectSums(): Promise<void> {
    const { layers, residentBytes, slots, expertBytes, ...counts } = await this.budget.stats();
    const all = await Promise.all(this.layers.map(async (layer) => layer?.offload?.stats()));
    const sum = (of: (stats: NonNullable<(typeof all)[number]>) => number) =>
      all.reduce((total, stats) => total + (stats === undefined ? 0 : of(stats)), 0);
    expect(layers).toBe(all.length);
    for (const [name, count] of Object.entries(counts)) {
      expect({ [name]: count }).toEqual({ [name]: sum((stats) => stats[name as keyof typeof counts]) });
    }
    expect(residentBytes).toBe(sum(({ resident }) => resident.length) * expertBytes);
    expect(residentBytes).toBeLessThanOrEqual(slots * expertBytes);
  }

  [Symbol.dispose](): void {
    for (const layer of this.layers) layer?.dispose();
    for (const whole of this.wholes) whole[Symbol.dispose]();
    this.budget.dispose();
  }
}
