import fc from "fast-check";
import { offloadPolicies } from "../../lib/core/device/backend.js";
import type { Device } from "../../lib/core/device/device.js";
import type { OffloadOptions } from "../../lib/layer/offload.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import type { Random } from "../../lib/testing/inputs/random.js";
import { type LayerProblem, RandomLayer } from "./random_layer.js";

/** Any option for a layer of this many experts. */
export const offloadOf = (experts: number): fc.Arbitrary<OffloadOptions> =>
  fc.integer({ min: 1, max: experts }).chain((slots) =>
    fc.record({
      slots: fc.constant(slots),
      policy: fc.constantFrom(...offloadPolicies),
      pinned: fc.uniqueArray(fc.integer({ min: 0, max: experts - 1 }), { maxLength: slots - 1 }),
    }),
  );

/** A layer of a problem with experts that come and go, beside one whose experts are all on the device. */
export class OffloadedPair implements Disposable {
  readonly whole: RandomLayer;
  readonly layer: MoeLayer;

  constructor(device: Device, problem: LayerProblem, offload: OffloadOptions) {
    this.whole = new RandomLayer(device, problem);
    this.layer = MoeLayer.create({ ...this.whole.options, offload });
  }

  get offload() {
    if (this.layer.offload === undefined) throw new Error("expected a layer with offload");
    return this.layer.offload;
  }

  /** Both layers' bits for tokens drawn from `random`, and the experts that they use. */
  forward(random: Random, tokens: number) {
    const { device } = this.layer;
    const { hiddenSize } = this.layer.description;
    using x = device.tensor(random.normals(tokens * hiddenSize), [tokens, hiddenSize], this.whole.x.dtype);
    using y = this.layer.forward(x);
    using expected = this.whole.layer.forward(x);
    const { ids, weights } = this.layer.route(x);
    const used = [...new Set(ids.dataSync())].filter((id) => id >= 0).sort((a, b) => a - b);
    ids.dispose();
    weights.dispose();
    return { y: y.rawSync(), expected: expected.rawSync(), used };
  }

  [Symbol.dispose](): void {
    this.layer.dispose();
    this.whole[Symbol.dispose]();
  }
}
