import { describe, expect, test } from "vitest";
import { SGD, type Tensor } from "../../../lib/index.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { exampleConfig, RandomLayer } from "../../support/random_layer.js";

describe.each(deviceNames)("parameters and a routing that is given, on %s", (name) => {
  const device = openForTests(name);
  const config = { ...exampleConfig, sharedExpert: { intermediateSize: 17, gate: "sigmoid" as const } };
  const make = () => new RandomLayer(device(), { config, tokens: 12, dtype: "f32", seed: 1, biases: true });
  const values = (tensor: Tensor | undefined) => (tensor as Tensor).dataSync();

  test("a step changes the experts and the shared gate, not the router", () => {
    using made = make();
    const { layer, x } = made;
    using parameters = layer.parameters();
    const { weights, gradients } = parameters;
    const parts = () => [weights.router, weights.routerBias, weights.sharedGate, weights.experts?.[2]?.up].map(values);
    const before = parts();
    const { state } = layer.forward(x, { routing: layer.route(x), save: true });
    const own = layer.backward(layer.forward(x, { routing: layer.route(x), save: true }).state, x).gradients;
    expect(layer.backward(state, x, { gradients }).gradients).toBe(gradients);
    for (const part of ["up", "down", "downBias"] as const) {
      expect(values(gradients.experts?.[2]?.[part])).toEqual(values(own.experts?.[2]?.[part]));
    }
    expect(values(gradients.sharedGate)).toEqual(values(own.sharedGate));
    using optimizer = new SGD(parameters, { learningRate: 0.1, weightDecay: 0.1 });
    optimizer.step();
    const changed = parts().map((part, index) => String(part) !== String(before[index]));
    expect(changed).toEqual([false, false, true, true]);
  });

  test("gradients of the router from an earlier backward become zeros, or stay if others are added", () => {
    using made = make();
    const { layer, x } = made;
    using parameters = layer.parameters();
    const { gradients } = parameters;
    const given = () => layer.forward(x, { routing: layer.route(x), save: true }).state;
    layer.backward(layer.forward(x, { save: true }).state, x, { gradients });
    const [router, bias] = [values(gradients.router), values(gradients.routerBias)];
    layer.backward(given(), x, { gradients, accumulate: true });
    expect([values(gradients.router), values(gradients.routerBias)]).toEqual([router, bias]);
    layer.backward(given(), x, { gradients });
    for (const gradient of [gradients.router, gradients.routerBias]) {
      expect(values(gradient).every((value) => value === 0)).toBe(true);
    }
  });

  test("gradients without a router do not do for the layer's own routing", () => {
    using made = make();
    const { layer, x } = made;
    const { gradients } = layer.backward(layer.forward(x, { routing: layer.route(x), save: true }).state, x);
    const { state } = layer.forward(x, { save: true });
    expectError(
      () => layer.backward(state, x, { gradients }),
      "INVALID_ARGUMENT",
      /gradients: .*, got some without routers/,
    );
  });
});
