import { expect } from "vitest";
import type { FloatDType, MoeLayer, Tensor } from "../../lib/index.js";

/** Expects a layer's forward of tokens x to be that of its own routing, whatever is asked for and wherever it goes. */
export async function expectForwardsOfOwnRouting(layer: MoeLayer, x: Tensor<FloatDType>): Promise<void> {
  const routing = layer.route(x);
  const expected = await layer.forward(x, { routing }).raw();
  expect(await layer.forward(x).raw()).toEqual(expected);
  const wanted = layer.forward(x, { want: ["routing", "logits"] });
  expect(await wanted.y.raw()).toEqual(expected);
  expect(await wanted.routing.ids.data()).toEqual(await routing.ids.data());
  expect(await wanted.logits.data()).toEqual(await layer.routerLogits(x).data());
  const out = layer.device.empty(x.shape, x.dtype);
  layer.forward(x, { out });
  expect(await out.raw()).toEqual(expected);
}
