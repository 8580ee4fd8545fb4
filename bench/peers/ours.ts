import { packageVersion } from "#lib/core/addon/version.js";
import type { Tensor } from "#lib/core/tensors/tensor.js";
import type { MoeLayer } from "#lib/moe_layer.js";
import { type Contender, concatenate, repeatFor } from "./contender.js";
import type { PeerDType } from "./formats.js";
import type { Input, Problem } from "./problem.js";

/** A call that can be timed. */
interface Call extends Disposable {
  /** Enqueues the layer. */
  enqueue(): void;
  /** Its outputs [T, H]. */
  readonly y: Tensor<PeerDType>;
}

/**
 * This package, three times: from the router's logits, like the peers; with the router, as users call it; and captured,
 * as engines decode. Timed from the call in JavaScript until the result is ready.
 */
export function ours(problem: Problem): readonly [Contender, ...Contender[]] {
  return [
    contender("moe-kernels", problem, (layer, { x, logits }, out) => {
      return { enqueue: () => void layer.forward(x, { logits, out }), y: out, [Symbol.dispose]() {} };
    }),
    contender("moe-kernels with router", problem, (layer, { x }, out) => {
      return { enqueue: () => void layer.forward(x, { out }), y: out, [Symbol.dispose]() {} };
    }),
    contender("moe-kernels captured, with router", problem, (layer, { x }) => {
      const capture = layer.capture(x.shape[0] as number, { dtype: x.dtype });
      capture.x.write(x.rawSync());
      return { enqueue: () => capture.replay(), y: capture.y, [Symbol.dispose]: () => capture.dispose() };
    }),
  ];
}

function contender(
  name: string,
  { layers, inputs }: Problem,
  prepare: (layer: MoeLayer, input: Input, out: Tensor<PeerDType>) => Call,
): Contender {
  const { device, description } = layers[0];

  /**
   * Applies the layer to each input and calls `use` with the output and the seconds it took.
   * @param done calls before, which say what copies of the layer are next.
   */
  async function onEach(
    tokens: number,
    done: number,
    use: (y: Tensor<PeerDType>, seconds: number) => void | Promise<void>,
  ): Promise<void> {
    const ofCount = inputs.get(tokens) as readonly [Input, ...Input[]];
    using out = device.empty([tokens, description.hiddenSize], ofCount[0].x.dtype);
    for (const [index, input] of ofCount.entries()) {
      const layer = layers[(done + index) % layers.length] as MoeLayer;
      using call = prepare(layer, input, out);
      const start = performance.now();
      call.enqueue();
      await device.synchronize();
      await use(call.y, (performance.now() - start) / 1e3);
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
