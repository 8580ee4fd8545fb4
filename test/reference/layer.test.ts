import { expect, test } from "vitest";
import { forwardStages } from "../../lib/core/layer/stages.js";
import { ForwardState } from "../../lib/reference/layer/forward_state.js";
import type { ReferenceLayer } from "../../lib/reference/layer/layer_handle.js";
import { openForTests } from "../support/devices.js";
import { exampleConfig, RandomLayer } from "../support/random_layer.js";

const device = openForTests("reference");

test("stages run in several calls over one state", () => {
  const config = { ...exampleConfig, sharedExpert: { intermediateSize: 20, gate: "softmax" } } as const;
  using random = new RandomLayer(device(), { config, tokens: 7, dtype: "f32", seed: 3 });
  const [rows, columns] = random.x.shape as [number, number];
  const layer = random.parts.onDevice.handle as ReferenceLayer;
  const stateOf = () => new ForwardState({ x: { values: Float64Array.from(random.x.dataSync()), rows, columns } });
  const whole = stateOf();
  layer.run(forwardStages, whole);
  for (let split = 1; split < forwardStages.length; split++) {
    const [state, other] = [stateOf(), stateOf()];
    layer.run(forwardStages.slice(0, split), state);
    layer.run(forwardStages, other);
    layer.run(forwardStages.slice(split), state);
    expect(state.get("y")).toEqual(whole.get("y"));
    expect(state.get("inner")).toEqual(whole.get("inner"));
  }
});
