import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import type { WeightDTypes } from "../../lib/layer/description/storage.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomExpert, randomShared } from "../../lib/testing/inputs/random_expert.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

const [hidden, inner, experts, tokens] = [40, 24, 5, 9];
const config = {
  hiddenSize: hidden,
  intermediateSize: inner,
  numExperts: experts,
  topK: 2,
  multiplier: true,
  sharedExpert: { intermediateSize: 30, gate: "sigmoid" },
} as const;

/** A layer's options with matrices and biases of dtypes `given`; every dtype represents their values exactly. */
function optionsOf(device: Device, given: FloatDType): MoeLayerOptions {
  const random = new Random(2);
  const draw = (shape: Shape, deviation: number) => {
    const values = random.normals(shapeSize(shape), deviation).map((value) => Math.round(value * 64) / 64);
    return device.tensor(values, shape, given);
  };
  return {
    ...config,
    device,
    router: draw([experts, hidden], 0.5),
    routerBias: draw([experts], 0.5),
    experts: randomExpert(draw, config, inner, true, [experts]),
    ...randomShared(draw, config, true),
  };
}

const parts = { router: experts * hidden, sharedGate: hidden, matrix: (experts + 2) * inner * hidden };
const biases = experts + 1 + (experts + 2) * (2 * inner + hidden);

describe.each(kernelPaths)("storage by role on $label", (path) => {
  const device = openForTests(path);
  const reference = openForTests("reference");

  const run = (device: Device, options: MoeLayerOptions, xDType: FloatDType): Float32Array => {
    using layer = MoeLayer.create(options);
    using x = device.tensor(new Random(3).normals(tokens * hidden, 1), [tokens, hidden], xDType);
    using y = layer.forward(x);
    return y.dataSync() as Float32Array;
  };

  const roles: readonly WeightDTypes[] = [
    { experts: "bf16", router: "f32" },
    { experts: "f32", router: "bf16", biases: "f32" },
    { experts: "f16", down: "bf16" },
    { gate: "bf16", up: "f32", multiplier: "f16", down: "f32" },
    { experts: "bf16", router: "f16", sharedGate: "f32", biases: "f16" },
  ];
  test.each(roles)("%j computes the same as reference", (dtype) => {
    for (const xDType of ["f32", "bf16"] as const) {
      const expected = run(reference(), { ...optionsOf(reference(), "f32"), dtype }, xDType);
      const y = run(device(), { ...optionsOf(device(), "f32"), dtype }, xDType);
      expect(relativeError(y, expected)).toBeLessThanOrEqual(xDType === "f32" ? 1e-4 : 3e-2);
    }
  });
});

describe("storage dtypes", () => {
  const device = openForTests("reference");
  const create = (given: FloatDType, dtype?: MoeLayerOptions["dtype"]) =>
    MoeLayer.create({ ...optionsOf(device(), given), ...(dtype && { dtype }) });

  test("roles in their own dtypes take their own bytes", () => {
    using layer = create("f32", { experts: "bf16", gate: "f32", router: "f16", biases: "f32" });
    const { formats, biasDType, weightDType } = layer.description;
    expect(formats).toEqual({
      router: "f16",
      sharedGate: "f32",
      gate: "f32",
      up: "bf16",
      multiplier: "bf16",
      down: "bf16",
    });
    expect([biasDType, weightDType]).toEqual(["f32", "bf16"]);
    const bytes = 2 * parts.router + 4 * parts.sharedGate + (4 + 3 * 2) * parts.matrix + 4 * biases;
    expect(layer.byteLength).toBe(bytes);
  });

  const withRouter = (given: FloatDType, router: FloatDType) => ({
    ...optionsOf(device(), given),
    router: device().tensor(new Float64Array(experts * hidden), [experts, hidden], router),
  });

  test.each([undefined, {}])("roles that %j leaves out keep the dtype of their tensors", (dtype) => {
    using kept = MoeLayer.create({ ...withRouter("f16", "f32"), dtype });
    expect(kept.description.formats).toEqual({
      router: "f32",
      ...Object.fromEntries(["sharedGate", "gate", "up", "multiplier", "down"].map((role) => [role, "f16"])),
    });
    expect(kept.description.biasDType).toBe("f16");
  });

  test.each<[FloatDType, FloatDType]>([
    ["f32", "f64"],
    ["f64", "f32"],
  ])("where weights are %s and the router is %s, all follow the router", (given, router) => {
    using layer = MoeLayer.create(withRouter(given, router));
    expect(new Set([...Object.values(layer.description.formats), layer.description.biasDType])).toEqual(
      new Set([router]),
    );
  });

  test.each<[unknown, RegExp]>([
    [{ expert: "f32" }, /^dtype: there is no option "expert"; did you mean "experts"\?$/],
    [{ experts: "f64" }, /^dtype: expected f64 for all roles or for none, got/],
    [[], /^dtype: expected an object such as \{ experts: "bf16", router: "f32" \}/],
  ])("%j is refused", (dtype, message) => {
    expectError(() => create("f32", dtype as WeightDTypes), "INVALID_ARGUMENT", message);
  });

  test("dtypes that weights cannot have are refused", () => {
    for (const dtype of ["i32", { experts: "i32" }]) {
      expectError(
        () => create("f32", dtype as never),
        "UNSUPPORTED_DTYPE",
        /^dtype(\.experts)?: expected f32, f16 or bf16/,
      );
    }
  });
});
