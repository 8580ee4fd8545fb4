import * as api from "../../../lib/index.js";
import { E, H, type Options, type Part } from "./call.js";

/** Layers whose experts are in slots: on `simt`, as `reference` has no offload. */
export function offloadCalls(): Part {
  const simt = api.openDevice("simt");
  const onSimt = (...shape: number[]) => simt.zeros(shape, "f32");
  const offloaded = {
    device: simt,
    dtype: "f32",
    hiddenSize: H,
    intermediateSize: 2,
    numExperts: E,
    topK: 2,
    router: onSimt(E, H),
    experts: { gate: onSimt(E, 2, H), up: onSimt(E, 2, H), down: onSimt(E, H, 2) },
    offload: { slots: 2, policy: "lru", pinned: [1], onMiss: "load" },
  };
  const budget = new api.OffloadBudget(simt, { slots: 2 });
  const shared = { ...offloaded, offload: { budget, pinned: [1], onMiss: "auto" } };
  const offloading = api.MoeLayer.create(offloaded as Options).offload as api.ExpertOffload;
  return {
    calls: [
      {
        name: "MoeLayer.create with offload",
        args: [],
        call: api.MoeLayer.create,
        valid: [offloaded, { ...offloaded, offload: { bytes: 2 ** 20 } }, shared],
      },
      {
        name: "OffloadBudget",
        args: [simt],
        call: (...args) => Reflect.construct(api.OffloadBudget, args),
        valid: [{ slots: 2, policy: "lru" }, { bytes: 2 ** 20 }],
      },
      { name: "ExpertOffload.prefetch", args: [[0, 1]], call: offloading.prefetch.bind(offloading) },
    ],
    close: () => simt.dispose(),
  };
}
