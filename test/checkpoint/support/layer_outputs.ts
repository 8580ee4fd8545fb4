import { expect } from "vitest";
import type { LoadOptions } from "../../../lib/checkpoint/load/load_layer.js";
import type { Device } from "../../../lib/core/device/device.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { Random } from "../../../lib/testing/inputs/random.js";

/** How a layer is loaded, if not as it is. */
export type OutputOptions = Pick<LoadOptions, "dtype" | "quantize">;

/** What a layer of a model gives for 7 tokens, the same ones for all models of a width. */
export async function layerOutputs(
  device: Device,
  path: string,
  layer: number,
  options: OutputOptions = {},
): Promise<Float32Array> {
  using loaded = await MoeLayer.load(path, { layer, device, ...options });
  const { hiddenSize } = loaded.description;
  using x = device.tensor(new Random("x").normals(7 * hiddenSize), [7, hiddenSize]);
  using y = loaded.forward(x);
  return (await y.data()) as Float32Array;
}

/** Expects that the first two layers of a model quantised to a format give what `dtype` makes of those of its source. */
export async function expectSameLayers(device: Device, quantized: string, source: string, dtype: string) {
  for (const layer of [0, 1]) {
    expect(await layerOutputs(device, quantized, layer)).toEqual(await layerOutputs(device, source, layer, { dtype }));
  }
}
