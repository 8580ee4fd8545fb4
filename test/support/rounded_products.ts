import fc from "fast-check";
import type { Device } from "../../lib/core/device/device.js";
import type { TokenFormat } from "../../lib/core/formats/token_format.js";
import type { WeightFormatName } from "../../lib/core/formats/weight_format.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../lib/operators/experts/packed_experts.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { inputChanges, randomExperts } from "../../lib/testing/inputs/random_quantized.js";

type RoundedTokens = Exclude<TokenFormat, "none">;

/** A product of any sizes that rounds its tokens. */
export const anyProduct = (
  formats: readonly WeightFormatName[],
  tokenFormats: readonly RoundedTokens[] = ["int8", "fp8", "fp8_ue8m0"],
) =>
  fc.record({
    format: fc.constantFrom(...formats),
    tokenFormat: fc.constantFrom(...tokenFormats),
    change: fc.constantFrom(...inputChanges),
    activation: fc.constantFrom("none", "swiglu"),
    rowsOfExperts: fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 3 }),
    columns: fc.integer({ min: 1, max: 400 }),
    outputs: fc.integer({ min: 1, max: 70 }),
    seed: fc.integer(),
  });
type Product = ReturnType<typeof anyProduct> extends fc.Arbitrary<infer T> ? T : never;

/** The same on each device. */
export async function roundedProduct(device: Device, problem: Product): Promise<Float32Array> {
  const { format, tokenFormat, change, activation, rowsOfExperts, columns, outputs, seed } = problem;
  const random = new Random(seed);
  const [experts, rows] = [rowsOfExperts.length, activation === "swiglu" ? 2 * outputs : outputs];
  const ends = rowsOfExperts.map((_, expert) => rowsOfExperts.slice(0, expert + 1).reduce((sum, count) => sum + count));
  const total = ends.at(-1) as number;
  using packed = packExperts(randomExperts(device, random, format, [experts, rows, columns], change), {
    tokenFormat,
    activation: activation as "none" | "swiglu",
  });
  using x = device.tensor(random.normals(total * columns), [total, columns]);
  using offsets = device.tensor(Int32Array.of(0, ...ends));
  using y = groupedGemm(x, packed, offsets);
  return (await y.data()) as Float32Array;
}
