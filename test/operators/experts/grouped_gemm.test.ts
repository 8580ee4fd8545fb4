import { describe, expect, test } from "vitest";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../../support/devices.js";

describe.each(kernelPaths)("grouped GEMM on $label", (path) => {
  const device = openForTests(path);

  test("every expert multiplies its own rows", () => {
    const weight = [
      [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
      [
        [2, 0],
        [0, 2],
        [2, 2],
      ],
    ];
    const x = device().tensor([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    using y = groupedGemm(x, device().tensor(weight), device().tensor(Int32Array.of(0, 1, 2)));
    expect(y.toArraySync()).toEqual([
      [1, 2, 3],
      [6, 8, 14],
      [0, 0, 0],
    ]);
  });

  test.each(["f32", "bf16", "f16"] as const)(
    "%s: packed weights, plain weights and a gathered x give the same bits",
    (dtype) => {
      const random = new Random(1);
      using x = device().tensor(random.normals(9 * 70), [9, 70], dtype);
      using weight = device().tensor(random.normals(3 * 34 * 70), [3, 34, 70], dtype);
      using offsets = device().tensor(Int32Array.of(0, 4, 4, 9));
      using order = device().tensor(Int32Array.from({ length: 9 }, (_, row) => row));
      using packed = packExperts(weight, { activation: "swiglu" });
      expect(packed.byteLength).toBeGreaterThanOrEqual(weight.byteLength);
      using fromPacked = groupedGemm(x, packed, offsets);
      using fromPlain = groupedGemm(x, weight, offsets, { activation: "swiglu" });
      using gathered = groupedGemm(x, packed, offsets, { tokenOfRow: order });
      expect(fromPlain.rawSync()).toEqual(fromPacked.rawSync());
      expect(gathered.rawSync()).toEqual(fromPacked.rawSync());
    },
  );

  test.each(["f32", "bf16", "f16"] as const)("%s: a row's bits do not depend on the other rows", (dtype) => {
    const random = new Random(2);
    const [rows, columns, outputs] = [67, 130, 37];
    using x = device().tensor(random.normals(rows * columns), [rows, columns], dtype);
    using packed = packExperts(device().tensor(random.normals(outputs * columns), [1, outputs, columns], dtype));
    const product = (begin: number, end: number) => {
      using part = x.rows(begin, end);
      using y = groupedGemm(part, packed, device().tensor(Int32Array.of(0, end - begin)));
      return [...y.rawSync()];
    };
    const together = product(0, rows);
    for (const size of [1, 2, 3, 8, 33]) {
      const parts = [];
      for (let begin = 0; begin < rows; begin += size) parts.push(...product(begin, Math.min(begin + size, rows)));
      expect(parts).toEqual(together);
    }
  });

  test("a weight of one call may be changed or disposed of right after it", () => {
    const weight = device().tensor([[[3]]]);
    const gathered = { tokenOfRow: device().tensor(Int32Array.of(0, 0)) };
    const offsets = device().tensor(Int32Array.of(0, 2));
    using before = groupedGemm(device().tensor([[2]]), weight, offsets, gathered);
    weight.write(Float32Array.of(5));
    using after = groupedGemm(device().tensor([[2]]), weight, offsets, gathered);
    weight.dispose();
    expect([before.toArraySync(), after.toArraySync()]).toEqual([
      [[6], [6]],
      [[10], [10]],
    ]);
  });

  test("packed weights are a copy: the tensor may be changed or disposed of afterwards", () => {
    const weight = device().tensor([[[3]]]);
    using packed = packExperts(weight);
    weight.dispose();
    using y = groupedGemm(device().tensor([[2]]), packed, device().tensor(Int32Array.of(0, 1)));
    expect(y.toArraySync()).toEqual([[6]]);
  });
});
