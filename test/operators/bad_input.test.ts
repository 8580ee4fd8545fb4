import { describe, expect, test, vi } from "vitest";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { openDevice } from "../../lib/devices.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { activate } from "../../lib/operators/experts/activate.js";
import { activationBackward } from "../../lib/operators/experts/activation_backward.js";
import { combine } from "../../lib/operators/experts/combine.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { linear } from "../../lib/operators/experts/linear.js";
import { packExperts } from "../../lib/operators/experts/packed_experts.js";
import { permute, unpermute } from "../../lib/operators/experts/permute.js";
import { quantize } from "../../lib/operators/formats/quantize.js";
import { type GatingOptions, gating } from "../../lib/operators/routing/gating.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { sort } from "../../lib/operators/routing/sort.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

/** What a caller without types may pass. */
// biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
type Anything = any;

describe.each(deviceNames)("bad arguments on %s", (name) => {
  const device = openForTests(name);
  const floats = (...shape: number[]): Tensor<"f32"> => device().zeros(shape, "f32");
  const integers = (...shape: number[]): Tensor<"i32"> => device().zeros(shape, "i32");

  test("gating options", () => {
    const options = (changes: object): GatingOptions => ({ topK: 2, ...changes });
    const bad = (changes: object, message: RegExp) =>
      expectError(() => gating(floats(3, 4), options(changes)), "INVALID_ARGUMENT", message);
    bad({ topK: 0 }, /topK: expected an integer from 1 to 4, got 0/);
    bad({ topK: 5 }, /topK: expected an integer from 1 to 4, got 5/);
    bad({ topK: 1.5 }, /topK: .*got 1\.5/);
    bad({ topK: undefined }, /topK: .*got undefined/);
    bad({ scoring: "sigmoidal" }, /scoring: expected one of "softmax".*got "sigmoidal"/);
    bad({ normalize: 1 }, /normalize: expected an object.*got 1/);
    bad({ scale: Number.POSITIVE_INFINITY }, /scale: expected a finite number, got Infinity/);
    bad({ scale: "2" }, /scale: expected a finite number, got "2"/);
    expectError(() => gating(floats(3, 0), { topK: 1 }), "INVALID_ARGUMENT", /topK/);
  });

  test("no options", () => {
    const call = (run: Anything, ...given: unknown[]) =>
      expectError(() => run(...given), "INVALID_ARGUMENT", /options: expected/);
    call(gating, floats(3, 4));
    call(gating, floats(3, 4), null);
    call(sort, integers(3, 2));
    call(MoeLayer.create);
  });

  test("weights that cannot be packed leave no memory behind", () => {
    using weight = quantize(floats(2, 192, 128), "e4m3_b128_f32");
    const { backend } = device();
    const create = backend.packedExperts.bind(backend);
    const frees: unknown[] = [];
    const created = vi.spyOn(backend, "packedExperts").mockImplementation((...sizes) => {
      const handle = create(...sizes);
      frees.push(vi.spyOn(handle, "free"));
      return handle;
    });
    const pack = () => packExperts(weight, { activation: "swiglu" });
    expectError(pack, "UNSUPPORTED_OPERATION", /begin with a group of e4m3_b128_f32/);
    created.mockRestore();
    expect(frees).toHaveLength(1);
    expect(frees[0]).toHaveBeenCalledOnce();
  });

  test("sort options", () => {
    for (const numExperts of [0, -1, 2.5, 2 ** 31, undefined]) {
      const call = () => sort(integers(2, 2), { numExperts: numExperts as number });
      expectError(call, "INVALID_ARGUMENT", /numExperts: expected an integer from 1/);
    }
  });

  test("activations", () => {
    const weight = floats(2, 4, 3);
    expectError(
      () => packExperts(weight, { activation: "tanh" as Anything }),
      "INVALID_ARGUMENT",
      /activation: expected one of "none".*got "tanh"/,
    );
    expectError(
      () => packExperts(weight, { activation: "swiglu_clamped", clamp: { limit: 0 } }),
      "INVALID_ARGUMENT",
      /^clamp\.limit: expected a number > 0, got 0/,
    );
    expectError(
      () => packExperts(floats(2, 5, 3), { activation: "swiglu" }),
      "SHAPE_MISMATCH",
      /even number of rows.*got 5/,
    );
    using packed = packExperts(weight, { activation: "swiglu" });
    expectError(
      () => groupedGemm(floats(1, 3), packed, integers(3), { activation: "relu" }),
      "INVALID_ARGUMENT",
      /activation: expected "swiglu", which the weights were packed for, got "relu"/,
    );
    const clamped = { activation: "swiglu_clamped", clamp: { limit: 2 } } as const;
    using packedClamped = packExperts(weight, clamped);
    groupedGemm(floats(1, 3), packedClamped, integers(3), clamped);
    expectError(
      () => groupedGemm(floats(1, 3), packedClamped, integers(3), { clamp: { limit: 3 } }),
      "INVALID_ARGUMENT",
      /clamp: expected { alpha: 1.702, limit: 2, upLimit: 2, offset: 1 }, which the weights were packed for, got { .*limit: 3/,
    );
    for (const call of [
      () => packExperts(weight, { clamp: {} }),
      () => groupedGemm(floats(1, 3), weight, integers(3), { clamp: {} }),
      () => linear(floats(1, 3), floats(4, 3), { clamp: {} }),
      () => linear(floats(1, 3), floats(4, 3), { activation: "swiglu", clamp: {} }),
      () => packExperts(weight, { activation: "swiglu", clamp: { limit: 7 } }),
      () => activate(floats(1, 4), { activation: "swiglu", clamp: { limit: 1 } }),
      () => activationBackward(floats(1, 4), floats(1, 2), { activation: "geglu", clamp: { limit: 1 } }),
    ]) {
      expectError(
        call,
        "INVALID_ARGUMENT",
        /^clamp requires the activation swiglu_clamped, swiglu_clamped_after or situ$/,
      );
    }
  });

  test("ranks and shapes", () => {
    const mismatch = (call: () => unknown, message: RegExp) => expectError(call, "SHAPE_MISMATCH", message);
    mismatch(() => routerProjection(floats(4), floats(2, 4)), /x: expected shape \[T, H\], got \[4\]/);
    mismatch(() => routerProjection(floats(3, 4), floats(2, 5)), /weight: expected shape \[E, 4\], got \[2, 5\]/);
    mismatch(
      () => routerProjection(floats(3, 4), floats(2, 4), { bias: floats(3) }),
      /bias: expected shape \[2\], got \[3\]/,
    );
    mismatch(
      () => routerProjection(floats(3, 4), floats(2, 4), { out: floats(3, 3) }),
      /out: expected shape \[3, 2\], got/,
    );
    mismatch(() => gating(floats(2, 3, 4), { topK: 1 }), /logits: expected shape \[T, E\], got \[2, 3, 4\]/);
    mismatch(
      () => gating(floats(2, 3), { topK: 2, out: { ids: integers(2, 2), weights: floats(2, 3) } }),
      /out\.weights: expected shape \[2, 2\], got \[2, 3\]/,
    );
    mismatch(() => sort(integers(4), { numExperts: 2 }), /ids: expected shape \[T, k\], got \[4\]/);
    mismatch(() => permute(floats(3, 4), integers(2, 2)), /tokenOfRow: expected shape \[R\], got \[2, 2\]/);
    mismatch(() => unpermute(floats(3, 4), integers(6)), /rowOfSlot: expected shape \[T, k\], got \[6\]/);
    mismatch(
      () => combine(floats(3, 4), integers(2, 2), floats(2, 3)),
      /weights: expected shape \[2, 2\], got \[2, 3\]/,
    );
    mismatch(
      () => groupedGemm(floats(3, 4), floats(2, 6, 5), integers(3)),
      /weight: expected shape \[E, N, 4\], got \[2, 6, 5\]/,
    );
    mismatch(
      () => groupedGemm(floats(3, 4), packExperts(floats(2, 6, 5)), integers(3)),
      /x: expected shape \[R, 5\].*got \[3, 4\]/,
    );
    mismatch(() => groupedGemm(floats(3, 4), floats(2, 6, 4), integers(2)), /offsets: expected shape \[3\], got \[2\]/);
    mismatch(
      () => groupedGemm(floats(3, 4), floats(2, 6, 4), integers(3), { bias: floats(2, 3) }),
      /bias: expected shape \[2, 6\]/,
    );
    mismatch(
      () => groupedGemm(floats(3, 4), floats(2, 6, 4), integers(3), { out: floats(3, 4) }),
      /out: expected shape \[3, 6\]/,
    );
  });

  test("dtypes", () => {
    const unsupported = (call: () => unknown, message: RegExp) => expectError(call, "UNSUPPORTED_DTYPE", message);
    const integerMatrix = integers(3, 4) as Anything;
    unsupported(() => routerProjection(integerMatrix, floats(2, 4)), /x: expected dtype f32, f16 or bf16, got i32/);
    unsupported(() => gating(integerMatrix, { topK: 1 }), /logits: expected dtype f32, f16 or bf16, got i32/);
    unsupported(() => sort(floats(2, 2) as Anything, { numExperts: 2 }), /ids: expected dtype i32, got f32/);
    unsupported(() => permute(floats(3, 4), floats(2) as Anything), /tokenOfRow: expected dtype i32, got f32/);
    unsupported(() => unpermute(integerMatrix, integers(2, 2)), /rows: expected dtype f32, f16 or bf16, got i32/);
    unsupported(() => combine(floats(3, 4), integers(2, 2), integers(2, 2) as Anything), /weights: expected dtype f32/);
    unsupported(
      () => groupedGemm(floats(3, 4), floats(1, 2, 4), floats(2) as Anything),
      /offsets: expected dtype i32, got f32/,
    );
    unsupported(() => packExperts(device().zeros([1, 2, 4], "u8") as Anything), /weight: expected dtype f32, .*got u8/);
    const out = device().zeros([3, 4], "bf16") as Anything;
    unsupported(() => permute(floats(3, 4), integers(3), { out }), /out: expected dtype f32, got bf16/);
  });

  test("not a tensor", () => {
    for (const value of [undefined, null, 3, [[1]], new Float32Array(4)] as Anything[]) {
      const expected =
        typeof value === "object" && value ? /: expected a Tensor, as .* makes, got/ : /: expected a Tensor, got/;
      expectError(() => gating(value, { topK: 1 }), "INVALID_ARGUMENT", new RegExp(`^logits${expected.source}`));
      expectError(() => permute(floats(2, 2), value), "INVALID_ARGUMENT", new RegExp(`^tokenOfRow${expected.source}`));
    }
    expectError(
      () => groupedGemm(floats(1, 1), [] as Anything, integers(2)),
      "INVALID_ARGUMENT",
      /weight: expected a Tensor or packed/,
    );
  });

  test("disposed tensors and packed experts", () => {
    const disposed = floats(2, 2);
    disposed.dispose();
    expectError(() => gating(disposed, { topK: 1 }), "DISPOSED", /used after dispose/);
    expectError(() => routerProjection(floats(1, 2), disposed), "DISPOSED", /used after dispose/);
    expectError(() => permute(floats(2, 2), integers(2), { out: disposed }), "DISPOSED", /used after dispose/);
    const packed = packExperts(floats(1, 2, 2));
    packed.dispose();
    packed.dispose();
    expectError(() => groupedGemm(floats(1, 2), packed, integers(2)), "DISPOSED", /packed experts: used after dispose/);
    expectError(() => packed.byteLength, "DISPOSED", /packed experts/);
  });

  test("tensors of different devices", () => {
    using other = openDevice(name);
    const foreign = other.zeros([2, 2], "f32");
    expectError(
      () => routerProjection(floats(1, 2), foreign),
      "DEVICE_MISMATCH",
      /weight: expected a tensor on the same/,
    );
    expectError(() => permute(foreign, integers(2)), "DEVICE_MISMATCH", /tokenOfRow/);
    expectError(() => permute(floats(2, 2), integers(2), { out: foreign }), "DEVICE_MISMATCH", /out/);
    const packed = packExperts(other.zeros([1, 2, 2], "f32"));
    expectError(
      () => groupedGemm(floats(1, 2), packed, integers(2)),
      "DEVICE_MISMATCH",
      /weight: expected packed experts on x's/,
    );
  });

  test("outputs that overlap an input or each other", () => {
    const memory = floats(6, 2);
    const overlap = (call: () => unknown) =>
      expectError(call, "INVALID_ARGUMENT", /out.*: expected memory of its own, got .*overlaps/);
    overlap(() => permute(memory.rows(0, 4), integers(4), { out: memory.rows(2, 6) }));
    overlap(() => unpermute(memory.rows(0, 2), integers(2, 2), { out: memory.rows(1, 5).reshape([2, 2, 2]) }));
    overlap(() => combine(memory.rows(0, 3), integers(2, 2), memory.rows(3, 5), { out: memory.rows(4, 6) }));
    overlap(() => groupedGemm(memory, floats(1, 2, 2), integers(2), { out: memory }));
    overlap(() => routerProjection(memory.rows(0, 3), floats(2, 2), { out: memory.rows(2, 5) }));
    const ids = integers(4, 2);
    const out = { offsets: integers(4), tokensPerExpert: integers(3), tokenOfRow: integers(8), rowOfSlot: ids };
    overlap(() => sort(ids, { numExperts: 3, out }));
    overlap(() => sort(integers(4, 2), { numExperts: 3, out: { ...out, rowOfSlot: out.tokenOfRow.reshape([4, 2]) } }));
  });

  test("neighbouring views do not overlap, whichever comes first", () => {
    const order = device().tensor(Int32Array.of(1, 0));
    const values = [
      [1, 2],
      [3, 4],
      [5, 6],
      [7, 8],
    ];
    const behind = device().tensor(values);
    permute(behind.rows(0, 2), order, { out: behind.rows(2, 4) });
    expect(behind.toArraySync()).toEqual([values[0], values[1], values[1], values[0]]);
    const before = device().tensor(values);
    permute(before.rows(2, 4), order, { out: before.rows(0, 2) });
    expect(before.toArraySync()).toEqual([values[3], values[2], values[2], values[3]]);
  });

  test("a failed call leaves nothing behind for the next wait", async () => {
    expectError(() => gating(floats(1, 2), { topK: 3 }), "INVALID_ARGUMENT", /topK/);
    await device().synchronize();
  });
});

describe.each(deviceNames)("indices out of range on %s", (name) => {
  const device = openForTests(name);
  const list = (...values: number[]) => device().tensor(Int32Array.from(values));
  const x = () =>
    device().tensor([
      [1, 2],
      [3, 4],
    ]);
  const late = (message: RegExp) => expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", message);

  test("permute: the row is zeros", () => {
    for (const index of [2, -2, 2 ** 31 - 1, -(2 ** 31)]) {
      const rows = permute(x(), list(1, index, 0));
      late(new RegExp(`permute.*tokenOfRow.*1.*from 0 to 1, got ${index}`));
      expect(rows.toArraySync()).toEqual([
        [3, 4],
        [0, 0],
        [1, 2],
      ]);
    }
  });

  test("permute: without tokens, -1 is the only valid index", () => {
    permute(device().zeros([0, 2], "f32"), list(0));
    late(/permute: tokenOfRow\[0\]: expected -1, the only valid value, got 0/);
  });

  test("unpermute: the slot is zeros", () => {
    const slots = unpermute(x(), list(5, 1).reshape([1, 2]));
    late(/unpermute.*rowOfSlot.*0.*got 5/);
    expect(slots.toArraySync()).toEqual([
      [
        [0, 0],
        [3, 4],
      ],
    ]);
  });

  test("combine: the slot adds nothing", () => {
    const y = combine(
      x(),
      list(1, 2, 0, -7).reshape([2, 2]),
      device().tensor([
        [1, 1],
        [2, 2],
      ]),
    );
    late(/combine.*rowOfSlot.*1.*got 2/);
    expect(y.toArraySync()).toEqual([
      [3, 4],
      [2, 4],
    ]);
  });

  test("grouped GEMM: rows of a bad token, and from a bad offset on, are zeros", () => {
    const weight = device().tensor([
      [
        [1, 0],
        [0, 1],
      ],
      [
        [2, 0],
        [0, 2],
      ],
    ]);
    const gathered = groupedGemm(x(), weight, list(0, 1, 3), { tokenOfRow: list(1, 2, 0) });
    late(/groupedGemm.*tokenOfRow.*1.*got 2/);
    expect(gathered.toArraySync()).toEqual([
      [3, 4],
      [0, 0],
      [2, 4],
    ]);
    for (const offsets of [
      [0, 1, 3],
      [0, 1, 0],
      [0, 1, -1],
      [0, 1, 2 ** 31 - 1],
    ]) {
      const y = groupedGemm(x(), weight, list(...offsets));
      late(/groupedGemm: offsets\[2\]: expected from 1 to 2, got/);
      expect(y.toArraySync()).toEqual([
        [1, 2],
        [0, 0],
      ]);
    }
  });
});
