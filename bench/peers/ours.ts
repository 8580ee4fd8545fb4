import { gatingRuleOf } from "#lib/bench/bench_case.js";
import type { Tensor } from "#lib/core/tensor.js";
import { packageVersion } from "#lib/core/version.js";
import type { MoeLayer } from "#lib/moe_layer.js";
import { gating, type Routing } from "#lib/operators/routing/gating.js";
import { type Contender, concatenate, repeatFor } from "./contender.js";
import type { PeerDType } from "./formats.js";
import type { Input, Problem } from "./problem.js";

/** Enqueues the layer for one input. */
type Enqueue = (layer: MoeLayer, input: Input, routing: Routing, out: Tensor<PeerDType>) => void;

/**
 * This package, twice: from the router's logits, like the peers, and with the router, as users call it. Timed from the
 * call in JavaScript until the result is ready.
 */
export function ours(problem: Problem): readonly [Contender, Contender] {
  const { config } = problem;
  const rule = gatingRuleOf(config);
  return [
    contender("moe-kernels", problem, (layer, { x, logits }, routing, out) => {
      gating(logits, { ...rule, out: routing });
      layer.forward(x, { routing, out });
    }),
    contender("moe-kernels with router", problem, (layer, { x }, _routing, out) => {
      layer.forward(x, { out });
    }),
  ];
}

function contender(name: string, { layers, inputs }: Problem, enqueue: Enqueue): Contender {
  const { device, description } = layers[0];

  /**
   * Applies the layer to each input and calls `use` with the output and the seconds it took.
   * @param done calls before, which say what copies of the layer are next.
   */
  async function onEach(
    tokens: number,
    done: number,
    use: (out: Tensor<PeerDType>, seconds: number) => void | Promise<void>,
  ): Promise<void> {
    const { hiddenSize, topK } = description;
    const ofCount = inputs.get(tokens) as readonly [Input, ...Input[]];
    using ids = device.empty([tokens, topK], "i32");
    using weights = device.empty([tokens, topK], "f32");
    using out = device.empty([tokens, hiddenSize], ofCount[0].x.dtype);
    for (const [index, input] of ofCount.entries()) {
      const layer = layers[(done + index) % layers.length] as MoeLayer;
      const start = performance.now();
      enqueue(layer, input, { ids, weights }, out);
      await device.synchronize();
      await use(out, (performance.now() - start) / 1e3);
    }
  }

  return {
    name,
    version: packageVersion,
    async outputs(tokens) {
      const parts: Float32Array[] = [];
      await onEach(tokens, 0, async (out) => {
        parts.push(await out.data());
      });
      return concatenate(parts);
    },
    async time(tokens, seconds) {
      const times: number[] = [];
      await repeatFor(seconds, () => onEach(tokens, times.length, (_out, taken) => void times.push(taken)));
      return times;
    },
  };
}
