import type { Tensor } from "#lib/core/tensor.js";
import { packageVersion } from "#lib/core/version.js";
import { gating, type Routing } from "#lib/operators/routing/gating.js";
import { gatingRule } from "../case.js";
import type { Contender } from "./contender.js";
import type { Input, PeerDType, Problem } from "./problem.js";

/** Enqueues the layer for one input. */
type Enqueue = (input: Input, routing: Routing, out: Tensor<PeerDType>) => void;

/**
 * This package, twice: from the router's logits, like the peers, and with the router, as users call it. Timed from the
 * call in JavaScript until the result is ready.
 */
export function ours(problem: Problem): readonly [Contender, Contender] {
  const { layer, config } = problem;
  const rule = gatingRule(config);
  return [
    contender("moe-kernels", problem, ({ x, logits }, routing, out) => {
      gating(logits, { ...rule, out: routing });
      layer.forward(x, { routing, out });
    }),
    contender("moe-kernels with router", problem, ({ x }, _routing, out) => {
      layer.forward(x, { out });
    }),
  ];
}

function contender(name: string, { layer, inputs }: Problem, enqueue: Enqueue): Contender {
  const { device } = layer;

  /** Applies the layer to each input and calls `use` with the output and the seconds it took. */
  async function onEach(
    tokens: number,
    use: (out: Tensor<PeerDType>, seconds: number) => void | Promise<void>,
  ): Promise<void> {
    const { hiddenSize, topK } = layer.description;
    const ofCount = inputs.get(tokens) as readonly [Input, ...Input[]];
    using ids = device.empty([tokens, topK], "i32");
    using weights = device.empty([tokens, topK], "f32");
    using out = device.empty([tokens, hiddenSize], ofCount[0].x.dtype);
    for (const input of ofCount) {
      const start = performance.now();
      enqueue(input, { ids, weights }, out);
      await device.synchronize();
      await use(out, (performance.now() - start) / 1e3);
    }
  }

  return {
    name,
    version: packageVersion,
    async outputs(tokens) {
      const parts: Float32Array[] = [];
      await onEach(tokens, async (out) => {
        parts.push(await out.data());
      });
      const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
      parts.reduce((offset, part) => {
        all.set(part, offset);
        return offset + part.length;
      }, 0);
      return all;
    },
    async time(tokens, seconds) {
      const times: number[] = [];
      const begin = performance.now();
      do await onEach(tokens, (_out, taken) => void times.push(taken));
      while (performance.now() - begin < seconds * 1e3);
      return times;
    },
  };
}
