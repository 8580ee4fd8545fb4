import type { DeviceHandles } from "../../lib/core/device/backend.js";
import type { Device } from "../../lib/core/device/device.js";
import { input, number, operator, output } from "../../lib/core/operators/field.js";
import type { Operators } from "../../lib/core/operators/table.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { ImplementationOf } from "../../lib/reference/core/implementation.js";
import { implementations } from "../../lib/reference/operators.js";
import type { Case } from "../../lib/testing/case.js";
import { unitRoundoff } from "../../lib/testing/rounding.js";

// Operators of the tests, added to lib/ from outside. Their kernels are in test/native/extension.

export const extensionOperators = {
  /** y [T, H] = x [T, H] * factor, in x's dtype. */
  testScale: operator({ x: input, factor: number, y: output }),
};

const runTestScale: ImplementationOf<(typeof extensionOperators)["testScale"]> = ({ x, factor, y }) => {
  y.store(x.values().map((value) => value * factor));
};

Object.assign(implementations, { testScale: runTestScale });

export function testScale<D extends FloatDType>(x: Tensor<D>, factor: number): Tensor<D> {
  const y = x.device.empty(x.shape, x.dtype);
  extended(x.device).testScale({ x: x.handle, factor, y: y.handle });
  return y;
}

function extended({ backend }: Device): Operators<typeof extensionOperators, DeviceHandles> {
  return backend as unknown as Operators<typeof extensionOperators, DeviceHandles>;
}

function testScaleCase(tokens: number, hidden: number, dtype: FloatDType, factor: number): Case<string> {
  return {
    name: `T${tokens} H${hidden} ${dtype} by ${factor}`,
    operator: "test_scale",
    tolerances: { y: 2 ** -23 + unitRoundoff[dtype] },
    run: (inputs) => ({ y: testScale(inputs.normals([tokens, hidden], dtype), factor) }),
  };
}

export const extensionCases: readonly Case<string>[] = (["f32", "f16", "bf16"] as const).flatMap((dtype) => [
  testScaleCase(0, 8, dtype, 2),
  testScaleCase(1, 1, dtype, -1),
  testScaleCase(33, 129, dtype, 0.3),
]);
