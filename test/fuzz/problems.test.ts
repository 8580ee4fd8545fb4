import { expect, test } from "vitest";
import { isGated } from "../../lib/core/layer/activation.js";
import { activationBackward } from "../../lib/index.js";
import { openForTests } from "../support/devices.js";
import { smoothActivations } from "./problems.js";

const device = openForTests("reference");

test.each(smoothActivations)("the derivative of %s does not jump at 0", (activation) => {
  const derivative = (value: number) => {
    using pre = device().tensor(isGated(activation) ? [[value, 1]] : [[value]]);
    using dInner = device().tensor([[1]]);
    const { dPre } = activationBackward(pre, dInner, { activation });
    return dPre.dataSync();
  };
  const below = derivative(-1e-6);
  const above = derivative(1e-6);
  for (const [index, value] of below.entries()) expect(above[index]).toBeCloseTo(value, 4);
});
