import { packageVersion } from "#lib/core/addon/version.js";
import type { FloatDType } from "#lib/core/tensors/dtype.js";
import type { Tensor } from "#lib/core/tensors/tensor.js";
import type { LayerTensors } from "#lib/layer/backward/layer_tensors.js";
import { type Contender, concatenate, repeatFor } from "./contender.js";
import type { PeerDType } from "./formats.js";
import type { Input, Problem } from "./problem.js";

/**
 * Sizes of the outputs of training with T tokens, by what they are: for every input dx [T, H], the gradient of the router
 * [E, H], and the first rows of every expert's gradients of gate, up [H] and down [I].
 */
export function gradientSizes({ config }: Problem, tokens: number): readonly number[] {
  const { hiddenSize, intermediateSize, numExperts } = config;
  const ofExperts = [hiddenSize, hiddenSize, intermediateSize].map((width) => numExperts * width);
  return [tokens * hiddenSize, numExperts * hiddenSize, ...ofExperts];
}

/** This package's forward and backward of the whole layer, router included, into gradients that are overwritten. */
export function ourTraining({ layers, inputs }: Problem): Contender {
  const [layer] = layers;
  const { device } = layer;
  let gradients: LayerTensors | undefined;

  function pass({ x, dy }: Input): { readonly dx: Tensor<FloatDType>; readonly gradients: LayerTensors; kept: number } {
    const { y, state } = layer.forward(x, { save: true });
    const kept = state.byteLength;
    const result = layer.backward(state, dy as Tensor<PeerDType>, gradients ? { gradients } : {});
    y.dispose();
    gradients = result.gradients;
    return { dx: result.dx, gradients, kept };
  }

  async function step(input: Input): Promise<number> {
    const start = performance.now();
    const { dx } = pass(input);
    await device.synchronize();
    const seconds = (performance.now() - start) / 1e3;
    dx.dispose();
    return seconds;
  }

  return {
    name: "moe-kernels",
    version: packageVersion,
    async outputs(tokens) {
      const parts: Float32Array[] = [];
      for (const input of inputs.get(tokens) as readonly Input[]) {
        const { dx, gradients } = pass(input);
        parts.push((await dx.data()) as Float32Array, await (gradients.router as Tensor<"f32">).data());
        for (const name of ["gate", "up", "down"] as const) parts.push(...(await firstRows(gradients, name)));
        dx.dispose();
      }
      return concatenate(parts);
    },
    async time(tokens, seconds) {
      const times: number[] = [];
      await repeatFor(seconds, async () => {
        for (const input of inputs.get(tokens) as readonly Input[]) times.push(await step(input));
      });
      return times;
    },
    async kept(tokens) {
      const { dx, kept } = pass((inputs.get(tokens) as readonly [Input])[0]);
      dx.dispose();
      return kept;
    },
  };
}

function firstRows(gradients: LayerTensors, name: "gate" | "up" | "down"): Promise<Float32Array[]> {
  const experts = gradients.experts as NonNullable<LayerTensors["experts"]>;
  return Promise.all(
    experts.map(async (expert) => {
      using row = (expert[name] as Tensor<"f32">).rows(0, 1);
      return await row.data();
    }),
  );
}
