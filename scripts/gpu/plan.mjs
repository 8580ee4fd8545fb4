import { shapes } from "#lib/testing/shapes.js";

/**
 * What a run does. `filter`: which cases to verify. `golden`: how the names of the golden files to compare end. For the
 * benchmarks: layers by name, tokens per call, samples, calls per sample, and MiB of weights to rotate through.
 */
const plans = {
  cuda: {
    filter: "",
    golden: "",
    shapes: named(["Qwen3-30B-A3B", "OLMoE-1B-7B", "Mixtral-8x7B"]),
    tokens: [1, 8, 64, 512, 4096],
    samples: 9,
    calls: 20,
    weights: 256,
  },
  simt: {
    filter: "",
    golden: "",
    shapes: named(["D"]),
    tokens: [1, 8],
    samples: 1,
    calls: 1,
    weights: 0,
  },
  /** Every step on the smallest cases, to test the script. */
  quick: {
    filter: "T9 ",
    golden: "norm_t1",
    shapes: { tiny: { hiddenSize: 64, intermediateSize: 32, numExperts: 8, topK: 2, normalize: true } },
    tokens: [1, 8],
    samples: 1,
    calls: 2,
    weights: 0,
  },
};

export function planFor(device, quick) {
  return plans[quick ? "quick" : device];
}

function named(names) {
  return Object.fromEntries(names.map((name) => [name, shapes[name]]));
}
