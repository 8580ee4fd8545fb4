import { checkShapeFits } from "../../bench/check_memory.js";
import type { NamedShape } from "../../bench/shape_option.js";
import { randomLayer } from "../../testing/inputs/random_layer.js";
import type { TokenSource } from "./tokens.js";
import type { Workload } from "./workload.js";

/** A layer of a shape with random weights, bf16 unless another dtype is asked for. */
export function namedShape({ name, config }: NamedShape, seed: number, tokens: TokenSource): Workload {
  return {
    title: `${name}, random weights of seed ${seed}`,
    layer: "layer",
    load: async (device, { dtype = "bf16", tokenFormat = "none" }, onProgress) => {
      if (device.kind !== "cuda") checkShapeFits("shape", name, { config, dtype: "f32", format: dtype });
      const report = (experts: number) => onProgress(experts / config.numExperts);
      // There is no configuration that says anything of tokens; `run` refuses to ask for it.
      const rounded = tokenFormat === "checkpoint" ? "none" : tokenFormat;
      return await randomLayer(device, config, dtype, seed, report, rounded);
    },
    ...tokens,
  };
}
