import { describe, expect, test } from "vitest";
import { combine } from "../../lib/operators/experts/combine.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { permute, unpermute } from "../../lib/operators/experts/permute.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { needs } from "../support/requirements.js";

/** All devices except `reference`, which widens whole tensors to float64. */
const nativeNames = deviceNames.filter((name) => name !== "reference");

describe.each(nativeNames)("rows beyond 2^31 elements on %s", (name) => {
  // Not poisoned, because untouched memory costs nothing.
  const device = openForTests(name, { poison: false });
  const hidden = 2 ** 15;
  const count = 2 ** 16 + 2;
  const last = count - 1;

  test("are written and read in the right place", needs("5 GiB of memory"), () => {
    const list = (...values: number[]) => device().tensor(Int32Array.from(values));
    using rows = device().empty([count, hidden], "bf16");
    const values = Float32Array.from({ length: hidden }, (_, column) => column % 251);
    using source = device().tensor(values, [1, hidden], "bf16");
    using target = rows.rows(last, count);
    permute(source, list(0), { out: target });

    using permuted = permute(rows, list(-1, last));
    expect(permuted.dataSync().slice(hidden)).toEqual(values);
    using slots = unpermute(rows, list(last, -1).reshape([1, 2]));
    expect(slots.dataSync().slice(0, hidden)).toEqual(values);
    using combined = combine(rows, list(last).reshape([1, 1]), device().tensor([[2]]));
    expect(combined.dataSync()).toEqual(values.map((value) => 2 * value));
    using weight = device().tensor(new Float32Array(hidden).fill(1), [1, 1, hidden], "bf16");
    using sum = groupedGemm(rows, weight, list(0, 1), { tokenOfRow: list(last), out: device().empty([1, 1], "f32") });
    expect(sum.dataSync()[0]).toBe(values.reduce((a, b) => a + b));
  });
});
