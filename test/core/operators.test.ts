import { describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import { isMoeError } from "../../lib/core/errors.js";
import { operators } from "../../lib/core/operators/table.js";
import { implementations } from "../../lib/reference/operators.js";
import { composedOperators } from "../../lib/testing/case.js";
import { cases } from "../../lib/testing/table.js";
import { extensionOperators } from "../extension/operators.js";
import { deviceNames, openForTests } from "../support/devices.js";

const all = { ...operators, ...extensionOperators };

describe("the list of operators", () => {
  const native = loadNative().operators();

  test("has the same names in TypeScript, in the native addon and on reference", () => {
    expect(Object.keys(native).sort()).toEqual(Object.keys(all).sort());
    expect(Object.keys(implementations).sort()).toEqual(Object.keys(all).sort());
  });

  test.each(Object.entries(all))("has the same fields for %s as the native addon", (name, fields) => {
    expect(native[name]).toEqual(fields);
  });

  test("has cases of every operator", () => {
    const named = new Set<string>(cases.map(({ operator }) => operator));
    const composed = Object.entries(composedOperators).filter(([name]) => named.has(name));
    const covered = new Set<string>(composed.flatMap(([, parts]) => parts));
    expect(Object.keys(operators).filter((name) => !named.has(name) && !covered.has(name))).toEqual([]);
  });
});

describe.each(deviceNames)("a backend on %s", (name) => {
  const device = openForTests(name);

  test("has every operator", () => {
    const { backend } = device();
    expect(Object.keys(all).filter((operator) => !(operator in backend))).toEqual([]);
  });
});

describe.each(deviceNames.filter((name) => name !== "reference"))("operands of a wrong kind on %s", (name) => {
  const device = openForTests(name);
  const call = (operator: string, operands: unknown) => () =>
    (device().backend as unknown as Record<string, (operands: unknown) => void>)[operator]?.(operands);
  const handle = (shape: number[]) => device().zeros(shape, "f32").handle;
  const rule = {
    topK: 1,
    scoring: "softmax",
    selectionKey: "score",
    numGroups: 1,
    topGroups: 1,
    groupScore: "max",
    normalization: "none",
    epsilon: 0,
    power: 1,
    scale: 1,
    jitter: 0,
  };
  const gating = (changes: object) => {
    const tensors = { logits: handle([2, 4]), ids: device().empty([2, 1], "i32").handle, weights: handle([2, 1]) };
    return call("gating", { ...tensors, rule, ...changes });
  };

  test("not an object", () => {
    for (const given of [undefined, null, 3, "x"]) {
      expect(call("gating", given)).toThrow(/^gating: expected an object, got /);
    }
  });

  test("not a tensor", () => {
    expect(gating({ logits: undefined })).toThrow("gating.logits: expected a tensor, got undefined");
    expect(gating({ selectionBias: {} })).toThrow("gating.selectionBias: expected a tensor, got an object");
    expect(gating({ ids: new Float32Array(2) })).toThrow("gating.ids: expected a tensor, got an object");
    expect(gating({ selectionBias: null })).not.toThrow();
  });

  test("not a choice, number or integer", () => {
    expect(gating({ rule: { ...rule, scoring: "soft" } })).toThrow(
      'gating.rule.scoring: expected one of softmax, softmax_selected, sigmoid, sqrt_softplus, none, sparsemixer, got "soft"',
    );
    expect(gating({ rule: { ...rule, groupScore: Symbol("max") } })).toThrow(/^gating\.rule\.groupScore: /);
    expect(gating({ rule: { ...rule, topK: 1.5 } })).toThrow("gating.rule.topK: expected an integer, got 1.5");
    expect(gating({ rule: { ...rule, topK: 2 ** 31 } })).toThrow(/^gating\.rule\.topK: expected an integer/);
    expect(gating({ rule: { ...rule, scale: "2" } })).toThrow('gating.rule.scale: expected a number, got "2"');
    expect(gating({ rule: [] })).toThrow(/^gating\.rule\.topK: expected an integer, got undefined/);
  });

  test("not a seed, boolean, matrix or packed experts", () => {
    const random = { offset: 0, distribution: "uniform", values: handle([4]) };
    for (const seed of [1, -1n, 2n ** 64n]) {
      expect(call("random", { ...random, seed })).toThrow(/^random\.seed: expected a bigint from 0 to 2\^64 - 1, got /);
    }
    const means = { values: handle([2, 2]), means: handle([1, 2]), square: 1, total: false };
    expect(call("columnMeans", means)).toThrow("columnMeans.square: expected a boolean, got 1");
    expect(call("copyMatrix", { source: 3, target: handle([2]) })).toThrow(
      "copyMatrix.source: expected a matrix, got 3",
    );
    const gemm = { x: handle([2, 2]), weight: handle([2, 2]), offsets: handle([2]), y: handle([2, 2]) };
    expect(call("groupedGemm", gemm)).toThrow("groupedGemm.weight: expected packed experts, got an object");
  });

  test("a matrix that does not fit its target", () => {
    const source = { handle: handle([4, 4]), rows: 4, columns: 4, rowStride: 4, columnStride: 1 };
    expect(call("copyMatrix", { source, target: handle([3, 4]) })).toThrow(/^copyMatrix: target: /);
  });

  test("are MoeErrors", () => {
    let thrown: unknown;
    try {
      gating({ rule: 1 })();
    } catch (error) {
      thrown = error;
    }
    expect(isMoeError(thrown, "INVALID_ARGUMENT")).toBe(true);
  });
});
