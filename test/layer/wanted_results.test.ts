import { describe, expect, test } from "vitest";
import { shapeSize } from "../../lib/core/tensors/shape.js";
import { MoeLayer, type MoeLayerOptions, type Tensor } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { openForTests } from "../support/devices.js";

// Results that come with a forward have the bits of those that are asked for alone, and change nothing about y.

const [T, H, I, E] = [21, 48, 32, 8];

describe.each(["cpu", "simt"] as const)("on %s", (name) => {
  const device = openForTests(name);

  function layerWith(options: Partial<MoeLayerOptions>): MoeLayer {
    const random = new Random("wanted");
    const weight = (...shape: number[]) => {
      return device().tensor(random.normals(shapeSize(shape), (shape.at(-1) as number) ** -0.5), shape, "bf16");
    };
    return MoeLayer.create({
      device: device(),
      hiddenSize: H,
      intermediateSize: I,
      numExperts: E,
      topK: 2,
      normalize: true,
      router: weight(E, H),
      selectionBias: weight(E),
      experts: { gate: weight(E, I, H), up: weight(E, I, H), down: weight(E, H, I) },
      sharedExpert: { intermediateSize: I, gate: "sigmoid" },
      shared: { gate: weight(I, H), up: weight(I, H), down: weight(H, I) },
      sharedGate: weight(1, H),
      ...options,
    });
  }

  test.each<[string, Partial<MoeLayerOptions>]>([
    ["a layer with everything", {}],
    ["a capacity", { capacity: { factor: 1 } }],
    ...(name === "simt"
      ? ([
          ["offload", { offload: { slots: 3 } }],
          ["offload to the CPU", { offload: { slots: 3, onMiss: "cpu" } }],
        ] as [string, Partial<MoeLayerOptions>][])
      : []),
  ])("%s", async (_, options) => {
    using layer = layerWith(options);
    for (const shape of [
      [T, H],
      [3, 7, H],
      [0, H],
    ]) {
      using x = device().tensor(new Random("x").normals(shapeSize(shape)), shape, "bf16");
      const alone = layer.route(x);
      const [y, logits] = [layer.forward(x), layer.routerLogits(x)];
      const { ids, weights } = alone;
      // With `onMiss`, which device computes an expert, and so the last bits of y, depends on what earlier calls have left.
      const bitsOf = async (result: Tensor<"bf16">) => {
        if (options.offload?.onMiss === undefined) return await result.raw();
        expect(relativeError(await result.data(), await y.data())).toBeLessThan(1e-2);
        return await y.raw();
      };
      const expected = await Promise.all([y.raw(), logits.raw(), ids.raw(), weights.raw()]);
      const wanted = layer.forward(x, { want: ["routing", "logits"] });
      const others = [wanted.logits, wanted.routing.ids, wanted.routing.weights].map((tensor) => tensor.raw());
      expect(await Promise.all([bitsOf(wanted.y), ...others])).toEqual(expected);
      const only = layer.forward(x, { want: ["logits"] });
      expect(await Promise.all([bitsOf(only.y), only.logits.raw()])).toEqual(expected.slice(0, 2));
      const chosen = layer.forward(x, { want: ["routing"] });
      expect(await bitsOf(chosen.y)).toEqual(expected[0]);
      expect(await chosen.routing.ids.raw()).toEqual(expected[2]);
      expect([Object.keys(only), Object.keys(chosen)]).toEqual([
        ["y", "logits"],
        ["y", "routing"],
      ]);
    }
  });
});
