import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { openDevice } from "../../lib/devices.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { isas, withIsa } from "../support/devices.js";

// From one token to thousands: tiles of one row and of all, panels that are read once and that are kept, results within
// and past the caches.

// More than the longest k that a tile is multiplied by at once, and no whole number of registers or panels.
const [hidden, inner, experts] = [1044, 36, 2];
const most = 4096;
const parts = [1, 17, 33];
const tokens = new Random("tokens").normals(most * hidden);

const problems = [
  { tokens: "bf16", format: "bf16", tokenFormat: "none" },
  { tokens: "f16", format: "bf16", tokenFormat: "none" },
  { tokens: "f32", format: "bf16", tokenFormat: "none" },
  { tokens: "bf16", format: "e2m1_g16_e8m0", tokenFormat: "none" },
  { tokens: "bf16", format: "i4_g32_bf16", tokenFormat: "int8" },
  { tokens: "f32", format: "i8_channel_f32", tokenFormat: "int8" },
  { tokens: "f32", format: "q4_k", tokenFormat: "int8" },
  { tokens: "f32", format: "u4_g32_f16", tokenFormat: "none" },
] as const;

function layerOf(device: Device, { format, tokenFormat }: (typeof problems)[number]): MoeLayer {
  const random = new Random(format);
  const matrix = (rows: number, columns: number) =>
    format === "bf16"
      ? device.tensor(random.normals(rows * columns, columns ** -0.5), [rows, columns], format)
      : { ...randomQuantized(device, random, format, [rows, columns]), columns };
  const list = Array.from({ length: experts }, () => ({
    gate: matrix(inner, hidden),
    up: matrix(inner, hidden),
    down: matrix(hidden, inner),
  }));
  const router = device.tensor(random.normals(experts * hidden), [experts, hidden], "bf16");
  const config = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 1 } as const;
  return MoeLayer.create({ ...config, device, router, experts: list, tokenFormat });
}

async function bytesOf(y: Tensor): Promise<Buffer> {
  const { buffer, byteOffset, byteLength } = await y.raw();
  y.dispose();
  return Buffer.from(buffer, byteOffset, byteLength);
}

describe.each(isas)("with %s", (isa) => {
  test.each(problems)("$tokens tokens, $format weights and $tokenFormat codes", async (problem) => {
    let expected: Buffer | undefined;
    for (const threads of [1, 2]) {
      using device = withIsa(isa, () => openDevice("cpu", { threads, poison: true }));
      using layer = layerOf(device, problem);
      using x = device.tensor(tokens, [most, hidden], problem.tokens);
      const all = await bytesOf(layer.forward(x));
      expected ??= all;
      expect(all.equals(expected)).toBe(true);
      const rowBytes = all.length / most;
      for (const count of parts) {
        for (const first of [0, 1027, most - count]) {
          using some = x.rows(first, first + count);
          const part = await bytesOf(layer.forward(some));
          const same = part.equals(all.subarray(first * rowBytes, (first + count) * rowBytes));
          expect({ first, count, same }).toEqual({ first, count, same: true });
        }
      }
    }
  });
});
