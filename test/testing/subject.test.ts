import { describe, expect, test, vi } from "vitest";
import type { Case } from "../../lib/testing/case.js";
import {
  formatReport,
  poisoned,
  Random,
  runCases,
  type Subject,
  type SubjectInputs,
  steadyLogits,
  testCases,
  testedOperators,
  toFloat32,
} from "../../lib/testing/index.js";
import { testedOperatorNames } from "../../lib/testing/subject/operator_names.js";
import { problemOf } from "../../lib/testing/subject/problem.js";
import { cases } from "../../lib/testing/table.js";
import { expectError, expectRejection } from "../support/errors.js";

describe("a case", () => {
  test("that calls its operator twice is refused, with what to do", () => {
    const once = cases.find(({ operator }) => operator === "activate") as Case<string>;
    const twice: Case<string> = {
      ...once,
      run(inputs) {
        once.run(inputs);
        return once.run(inputs);
      },
    };
    expectError(
      () => problemOf("activate", twice, 0),
      "INTERNAL",
      /expected one call of activate .*, got activate, activate; mark the case devicesOnly, or /,
    );
  });

  test("for devices only is none of a subject's", () => {
    const ours = cases.filter(({ devicesOnly }) => devicesOnly).map(({ name }) => name);
    expect(ours.length).toBeGreaterThan(50);
    expect(testCases.filter(({ name }) => ours.includes(name))).toEqual([]);
  });

  test("is data, the same for the same seed", () => {
    const one = testCases.find(
      ({ operator, name }) => operator === "gating" && name.startsWith("T5 E160 k6 softmax of"),
    );
    const problem = one?.problem();
    expect(problem?.inputs.logits).toMatchObject({ shape: [5, 160], dtype: "bf16" });
    expect(problem?.inputs.logits.data).toBeInstanceOf(Uint16Array);
    expect(problem?.inputs.rule).toMatchObject({ topK: 6, scoring: "softmax" });
    expect(problem?.inputs.outputs).toEqual({
      ids: { shape: [5, 6], dtype: "i32" },
      weights: { shape: [5, 6], dtype: "f32" },
    });
    expect(problem?.expected.ids).toBeInstanceOf(Int32Array);
    expect(problem?.expected.weights).toBeInstanceOf(Float64Array);
    expect(one?.problem().inputs.logits).toEqual(problem?.inputs.logits);
    expect(one?.problem(1).inputs.logits).not.toEqual(problem?.inputs.logits);
    if (one && problem) {
      expect(one.toleranceOf("ids", problem)).toMatchObject({ tolerance: 0, why: expect.stringContaining("exact") });
      expect(one.toleranceOf("weights", problem)).toMatchObject({
        tolerance: 3e-6,
        why: expect.stringContaining("float32"),
      });
    }
  });

  test("gives weights as they were before packing", () => {
    const one = testCases.find(({ name }) => name.includes("swiglu bf16 x bf16, bias bf16"));
    const { inputs } = one?.problem() ?? {};
    expect(inputs?.weight).toMatchObject({ shape: [2, 32, 64], dtype: "bf16" });
    expect(inputs?.activation).toBe("swiglu");
    expect(toFloat32(inputs?.weight).some((value) => Math.abs(value) > 0.1)).toBe(true);
  });

  test("can be drawn for every operator that is listed", () => {
    expect(new Set(testedOperators)).toEqual(new Set([...testedOperatorNames, "layer"]));
    for (const operator of testedOperators) {
      const { inputs, expected } = testCases.find((one) => one.operator === operator)?.problem(3) ?? {};
      expect(Object.keys(expected ?? {}).length, operator).toBeGreaterThan(0);
      expect(Object.keys(inputs?.outputs ?? {})).toEqual(expect.arrayContaining(Object.keys(expected ?? {})));
    }
  });
});

function fail(): never {
  throw new Error("no such dtype");
}

/** A subject with one operator. */
function permuting(permute: (inputs: SubjectInputs) => unknown): Subject {
  return { name: "mine <1>", operators: { permute: permute as never } };
}

const rightPermute = ({ x, tokenOfRow, outputs }: SubjectInputs) => {
  const [rows, width] = outputs.rows.shape as [number, number];
  const result = new x.data.constructor(rows * width);
  tokenOfRow.data.forEach((token: number, row: number) => {
    if (token >= 0) result.set(x.data.subarray(token * width, (token + 1) * width), row * width);
  });
  return { rows: result };
};

/** The right rows as a list of something else. */
function listed(inputs: SubjectInputs, map: (value: number) => unknown) {
  const { rows } = rightPermute(inputs);
  return { rows: Array.from(toFloat32({ data: rows, dtype: inputs.x.dtype }), map) };
}

describe("a subject", () => {
  test("may return bits of 16-bit floats, and be asynchronous", async () => {
    const report = await runCases(permuting(async (inputs) => rightPermute(inputs)));
    expect(report.passed).toBe(true);
    expect(report.untested).toContain("gating");
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("out of registers");
      },
      "out of registers",
    ],
    [
      "returns nothing",
      () => undefined,
      /^rows: expected an array of the \d+ values of shape \[33, \d+\], got undefined$/,
    ],
    [
      "returns no array",
      () => ({ rows: new Map() }),
      /^rows: expected an array of the \d+ values of shape .*, got Map$/,
    ],
    ["returns too few values", () => ({ rows: [1, 2] }), /^rows: expected \d+ values of shape \[.*\], got 2$/],
    [
      "returns null for some numbers",
      (inputs: SubjectInputs) => listed(inputs, (value) => (value > 0 ? null : value)),
      /^rows\[\d+, \d+\]: expected a number, got null$/,
    ],
    ["returns texts", (inputs: SubjectInputs) => listed(inputs, String), /^rows\[0, 0\]: expected a number, got ".*"$/],
    ["returns bigints", () => ({ rows: new BigInt64Array(33 * 51) }), "rows[0, 0]: expected a number, got 0n"],
    [
      "changes the shape of its output",
      (inputs: SubjectInputs) => {
        const result = rightPermute(inputs);
        inputs.outputs.rows.shape[0] = 0;
        return result;
      },
      "it changed its input outputs.rows.shape.0",
    ],
    [
      "takes away its outputs",
      (inputs: SubjectInputs) => {
        const result = rightPermute(inputs);
        delete inputs.outputs.rows;
        return result;
      },
      "it changed its input outputs.rows.shape.0, outputs.rows.shape.1, outputs.rows.dtype",
    ],
    [
      "changes its input",
      (inputs: SubjectInputs) => {
        const result = rightPermute(inputs);
        inputs.x.data.fill(1);
        return result;
      },
      "it changed its input x",
    ],
  ] as const)("that %s fails, and the next cases run", async (_, permute, failure) => {
    const { passed, results } = await runCases(permuting(permute as never), { filter: "R33" });
    expect(passed).toBe(false);
    expect(results.length).toBe(3);
    for (const result of results)
      expect(result).toMatchObject({
        passed: false,
        failure: typeof failure === "string" ? failure : expect.stringMatching(failure),
      });
  });

  test.each(["permute", "supports"] as const)("whose %s never settles is asked nothing more", async (part) => {
    // Something that goes on, so that the promise could settle.
    const work = setInterval(() => {}, 1000);
    const never = vi.fn(() => new Promise<never>(() => {}));
    const subject = part === "permute" ? permuting(never) : { ...permuting(rightPermute), supports: never };
    const { passed, results } = await runCases(subject, { filter: "R33", timeout: 0.001 });
    clearInterval(work);
    expect(never).toHaveBeenCalledOnce();
    expect(passed).toBe(false);
    const late = "a promise did not settle within the timeout of 0.001 seconds";
    expect(results.map(({ failure }) => failure)).toEqual([
      part === "permute" ? late : `supports: ${late}`,
      `not asked, because in an earlier case ${late}`,
      `not asked, because in an earlier case ${late}`,
    ]);
  });

  test("whose close() never settles is left with a warning", async () => {
    const work = setInterval(() => {}, 1000);
    const warning = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    const subject: Subject = { ...permuting(rightPermute), close: () => new Promise(() => {}) };
    expect(await runCases(subject, { filter: "R33 H51 f32", timeout: 0.001 })).toMatchObject({ passed: true });
    clearInterval(work);
    expect(warning).toHaveBeenCalledWith(
      "close() of mine <1> failed: a promise did not settle within the timeout of 0.001 seconds",
    );
    warning.mockRestore();
  });

  test("may be of a class", async () => {
    class Operators {
      readonly #permute = rightPermute;
      permute(inputs: SubjectInputs) {
        return this.#permute(inputs);
      }
    }
    const report = await runCases({ name: "mine", operators: new Operators() as never }, { filter: "R33" });
    expect(report).toMatchObject({ passed: true, results: { length: 3 } });
  });

  test("that gives other values every time is found by repeating", async () => {
    let calls = 0;
    const memory = new Float32Array(33 * 51);
    // It has one array for all its results.
    const drifting = permuting((inputs) => {
      memory.set(rightPermute(inputs).rows);
      memory[52] = (memory[52] as number) + calls++ * 2 ** -20;
      return { rows: memory };
    });
    const filter = "R33 H51 f32";
    expect(await runCases(drifting, { filter })).toMatchObject({ passed: true });
    calls = 0;
    const { passed, results } = await runCases(drifting, { filter, repeat: 3 });
    expect(passed).toBe(false);
    expect(results[0]?.checks).toMatchObject([
      { output: "rows", passed: true },
      {
        output: "rows in call 2",
        passed: false,
        wrong: 1,
        worst: { index: [1, 1] },
        why: expect.stringMatching(/every call/),
      },
      { output: "rows in call 3", passed: false, tolerance: 0 },
    ]);
    expect(await runCases(permuting(rightPermute), { filter: "R33", repeat: 2 })).toMatchObject({ passed: true });
  });

  test("does not have an operator that is undefined", async () => {
    const { operators } = permuting(rightPermute);
    const subject = { name: "mine", operators: { ...operators, gating: undefined } };
    const report = await runCases(subject, { filter: "R33 H51 f32" });
    expect(report).toMatchObject({ passed: true, untested: expect.arrayContaining(["gating"]) });
    await expect(runCases({ ...subject, operators: { gating: undefined } })).rejects.toThrow(/at least one operator/);
  });

  test("may leave out cases, but not all", async () => {
    const f32 = (_: string, { x }: SubjectInputs) => x.dtype === "f32";
    const report = await runCases({ ...permuting(rightPermute), supports: f32 }, { filter: "R33" });
    expect(report).toMatchObject({ passed: true, results: [{ name: "T7 R33 H51 f32" }] });
    expect(report.skipped.map(({ name }) => name)).toEqual(["T7 R33 H51 f16", "T7 R33 H51 bf16"]);
    expect(formatReport(report, "table")).toContain("Skipped: 2 cases that the subject does not support");
    const later = await runCases(
      { ...permuting(rightPermute), supports: async (...of) => f32(...of) },
      { filter: "R33" },
    );
    expect(later.skipped).toEqual(report.skipped);
    const none = await runCases({ ...permuting(rightPermute), supports: () => false }, { filter: "R33" });
    expect(none.passed).toBe(false);
    expect(formatReport(none, "table")).toContain("✘ nothing was tested");
  });

  test.each([
    ["throws", () => fail()],
    ["rejects", async () => fail()],
  ])("whose supports() %s fails that case, and the next ones run", async (_, then) => {
    const supports = (_: string, { x }: SubjectInputs) => x.dtype === "f32" || then();
    const { passed, results } = await runCases({ ...permuting(rightPermute), supports }, { filter: "R33" });
    expect(passed).toBe(false);
    expect(results.map(({ name, failure }) => [name, failure])).toEqual([
      ["T7 R33 H51 f32", null],
      ["T7 R33 H51 f16", "supports: no such dtype"],
      ["T7 R33 H51 bf16", "supports: no such dtype"],
    ]);
  });

  test.each([
    ["nothing to say", new RangeError(), "RangeError"],
    ["a text", "out of registers", "out of registers"],
    ["what has no text", Object.create(null), "object"],
  ])("that throws %s fails too", async (_, thrown, failure) => {
    const permute = () => {
      throw thrown;
    };
    const { results } = await runCases(permuting(permute), { filter: "R33 H51 f32" });
    expect(results).toMatchObject([{ failure }]);
  });

  test("is closed at the end, also after a failure", async () => {
    let closed = 0;
    await runCases(
      {
        ...permuting(() => undefined),
        close: () => {
          closed += 1;
        },
      },
      { filter: "R33" },
    );
    expect(closed).toBe(1);
  });

  test("that fails to close gives a warning, and its results", async () => {
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    const close = () => Promise.reject(new Error("no reply"));
    const { results } = await runCases({ ...permuting(() => undefined), close }, { filter: "R33" });
    expect(results).not.toHaveLength(0);
    expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(/^close\(\) of .* failed: no reply$/));
    warn.mockRestore();
  });

  test("options that do not exist, or are of another type, are refused, and the subject is closed", async () => {
    const close = vi.fn();
    const subject = { ...permuting(rightPermute), close };
    const wrong = [
      [{ sed: 5 }, /sed/],
      [{ onResult: 5 }, /^onResult: /],
      [{ seed: 0.5 }, /^seed: /],
      [{ filter: 1 }, /^filter: /],
    ];
    for (const [options, message] of wrong) {
      await expect(runCases(subject, options as never)).rejects.toThrow(message as RegExp);
    }
    expect(close).toHaveBeenCalledTimes(4);
  });

  test.each([
    [null, /subject\.name: expected a string/],
    [{ name: "x" }, /subject\.operators: expected an object of functions/],
    [{ name: "x", operators: {} }, /at least one operator/],
    [{ name: "x", operators: { gate() {} } }, /names among routerProjection, .*gate/],
    [{ name: "x", operators: { gating: 3 } }, /subject\.operators\.gating: expected a function, got 3/],
  ])("of another form is refused: %o", async (subject, message) => {
    await expect(runCases(subject as never)).rejects.toThrow(message);
  });

  test("that throws when it is looked at is refused", async () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const throws = {
      get gating(): never {
        throw new Error("no");
      },
    };
    await expectRejection(runCases(proxy as never), "INVALID_ARGUMENT", /^subject: expected a value that can be read/);
    const subject = { name: "x", operators: throws };
    await expectRejection(
      runCases(subject),
      "INVALID_ARGUMENT",
      /^subject\.operators: expected a value that can be read/,
    );
  });

  test("without a selected case is refused", async () => {
    await expect(runCases(permuting(rightPermute), { filter: "frobnicate" })).rejects.toThrow(
      /filter: expected .*frobnicate/,
    );
  });
});

describe("a report", () => {
  const broken = permuting((inputs) => {
    const { rows } = rightPermute(inputs);
    if (inputs.x.dtype === "f16") rows.fill(0);
    return { rows };
  });

  test("as a table, JSON, JUnit XML and HTML names what failed", async () => {
    const report = await runCases(broken, { filter: "R33" });
    const table = formatReport(report, "table");
    expect(table).toMatch(/^mine <1>: 3 cases in .*, ✘ 1 failed$/m);
    expect(table).toMatch(/^permute +rows +3 +1\.0e\+0 +exact +T7 R33 H51 f16$/m);
    expect(table).toMatch(
      /^✘ permute T7 R33 H51 f16: rows: error 1\.0e\+0, none allowed; \d+ of 1683 values wrong, in \[0-\d+, 0-50\]; \[\d+, \d+\] is 0 instead of -?\d/m,
    );
    expect(JSON.parse(formatReport(report, "json"))).toMatchObject({ subject: "mine <1>", passed: false });
    const junit = formatReport(report, "junit");
    expect(junit).toMatch(
      /^<\?xml version="1\.0" encoding="UTF-8"\?>\n<testsuites name="mine &lt;1&gt;" tests="3" failures="1"/,
    );
    expect(junit.match(/<testcase /g)).toHaveLength(3);
    expect(junit).toContain('<failure message="rows: error 1.0e+0, none allowed; ');
    const html = formatReport(report, "html");
    expect(html).toContain("<title>mine &lt;1&gt;: 3 cases, 1 failed</title>");
    expect(html.match(/<tr class="failed">/g)).toHaveLength(1);
    expect(() => formatReport(report, "pdf" as never)).toThrow(/format: expected one of "table"/);
  });
});

test("a table shows what a subject says in several lines, and nothing that a terminal would interpret", async () => {
  const subject = permuting(() => {
    throw new Error("shader:3: no such type\n  f61\u001b[31m");
  });
  const report = await runCases({ ...subject, name: "mine\u001b[31m" }, { filter: "R33 H51 f32" });
  const table = formatReport(report, "table");
  expect(table).toMatch(/^mine\\u001b\[31m: 1 case in /);
  expect(table).toContain("✘ permute T7 R33 H51 f32: shader:3: no such type\n      f61\\u001b[31m\n");
});

describe("helpers", () => {
  test("poison is NaN in floats and -1 in integers", () => {
    expect([...poisoned("f32", 2)]).toEqual([Number.NaN, Number.NaN]);
    expect([...toFloat32({ data: poisoned("bf16", 1), dtype: "bf16" })]).toEqual([Number.NaN]);
    expect([...poisoned("i32", 1)]).toEqual([-1]);
  });

  test("steady logits choose the same experts after rounding errors", () => {
    const [tokens, experts, topK] = [50, 64, 8];
    const logits = steadyLogits(tokens, experts, { topK }, 3);
    const random = new Random(1);
    const chosen = (values: Float32Array, token: number) =>
      Array.from({ length: experts }, (_, id) => id)
        .sort((a, b) => (values[token * experts + b] as number) - (values[token * experts + a] as number))
        .slice(0, topK);
    const moved = logits.map((value) => value * (1 + 1e-5 * (random.uniform() - 0.5)));
    for (let token = 0; token < tokens; token++) expect(chosen(moved, token)).toEqual(chosen(logits, token));
  });
});
