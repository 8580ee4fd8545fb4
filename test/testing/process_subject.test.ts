import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { processSubject, runCases, type Subject } from "../../lib/testing/index.js";
import { readAnswer, requestLine, wrongAnswer } from "../../lib/testing/subject/wire.js";
import { expectRejection } from "../support/errors.js";

const peer = (mistake = "none") =>
  processSubject(process.execPath, { args: [join("test", "testing", "peer.mjs"), mistake] });

const small = ({ operator, name }: { operator: string; name: string }): boolean =>
  operator === "layer"
    ? /^T(9|13) H51 .*swiglu f32 x f32/.test(name)
    : operator === "groupedGemm"
      ? name.includes("i4_g32_bf16")
      : operator === "sgd" || /R33/.test(name);

test("a process that knows only the documentation computes operators, quantised weights, optimisers and layers", async () => {
  const report = await runCases(await peer(), { filter: small });
  expect(report.results.filter(({ passed }) => !passed)).toEqual([]);
  expect(report).toMatchObject({ subject: "peer", passed: true });
  const passed = (operator: string) => report.results.filter((result) => result.operator === operator).length;
  expect(["permute", "groupedGemm", "sgd", "layer"].map((name) => passed(name) > 0)).toEqual([true, true, true, true]);
  expect(passed("permute")).toBe(3);
  // What it does not support is skipped and counted.
  expect(report.skipped.map(({ operator }) => operator)).toEqual(
    expect.arrayContaining(["groupedGemm", "sgd", "layer"]),
  );
});

test("calls at the same time are answered each with its own outputs", async () => {
  const subject = await processSubject(process.execPath, {
    args: [join("test", "testing", "peer.mjs")],
    timeout: 20,
  });
  const permute = (value: number, ...tokens: number[]) =>
    subject.operators.permute?.({
      x: { data: Float32Array.of(value, 2 * value), shape: [2, 1], dtype: "f32" },
      tokenOfRow: { data: Int32Array.from(tokens), shape: [tokens.length], dtype: "i32" },
      outputs: { rows: { shape: [tokens.length, 1], dtype: "f32" } },
    });
  const answers = await Promise.all([permute(1, 0, 1), permute(3, 1), permute(5, 1, -1, 0)]);
  await subject.close?.();
  expect(answers).toEqual([[1, 2], [6], [10, 0, 5]].map((rows) => ({ rows: Float32Array.from(rows) })));
});

test("answers may be without ids", async () => {
  const report = await runCases(await peer("no ids"), { filter: "permute" });
  expect(report).toMatchObject({ passed: true });
  expect(report.results.length).toBeGreaterThan(3);
});

test.each([
  ["answers twice", /answer: expected the id 2 of the call, got 1|it wrote a line that nobody asked for: \{"id":1,/],
  ["prints", /answer: expected JSON such as .*got done|it wrote a line that nobody asked for: done/],
])("what a process that %s writes is not taken for answers to other calls", async (mistake, failure) => {
  const { results } = await runCases(await peer(mistake), { filter: "permute" });
  const [first, second, ...others] = results;
  expect(first).toMatchObject({ passed: true });
  expect(others.length).toBeGreaterThan(0);
  for (const one of [second, ...others]) {
    expect(one).toMatchObject({ passed: false, failure: expect.stringMatching(failure) });
  }
});

test.each([
  ["throws", /^out of registers$/],
  ["garbage", /^answer: expected JSON such as \{"outputs": .*got "?no JSON/],
  ["short", /^rows: expected base64 of \d+ bytes of f32, got "?3 bytes/],
  ["ends", /^command: expected a process that answers, got .*it ended with code 3/],
])("a process that %s fails its cases, and the run ends", async (mistake, failure) => {
  const report = await runCases(await peer(mistake), { filter: "R33 H51 f32" });
  expect(report.passed).toBe(false);
  expect(report.results).toMatchObject([{ passed: false, failure: expect.stringMatching(failure) }]);
});

test.each([
  ["no greeting", /first line: expected JSON such as \{"name": "mine", "operators": \["gating"\]\}, got "?hello/],
])("a process with %s is refused", async (mistake, message) => {
  await expect(peer(mistake)).rejects.toThrow(message);
});

test("operators that do not exist, and commands that cannot be started, are refused", async () => {
  await expect(peer("unknown operator")).rejects.toThrow(/subject\.operators: expected names among .*frobnicate/);
  const missing = processSubject(join("test", "testing", "no_such_program"));
  await expect(missing).rejects.toThrow(/command: expected a process that answers, got .*cannot be started/);
  for (const [command, options] of [
    ["no\0de", {}],
    ["node", { args: ["\0"] }],
    ["node", { cwd: "\0" }],
    ["node", { env: { PATH: "\0" } }],
    ["node", { args: Array(64).fill("x".repeat(2 ** 17 - 1)) }],
  ] as const) {
    const started = processSubject(command, options);
    await expectRejection(
      started,
      "INVALID_ARGUMENT",
      /command: expected a process that answers, got .*cannot be start/,
    );
  }
  await expect(processSubject("")).rejects.toThrow(/command: expected the name of a program/);
  await expect(processSubject("node", { arguments: [] } as never)).rejects.toThrow(/arguments.*args/);
});

test("numbers that JSON does not have, nested arrays and 16-bit floats go through", () => {
  const inputs = { limit: Number.POSITIVE_INFINITY, outputs: { y: { shape: [2], dtype: "bf16" } }, weights: {} };
  const gate = { data: Uint16Array.of(0x3f80, 0xbf80), shape: [2], dtype: "bf16" };
  const line = requestLine(7, "layer", { ...inputs, weights: { gate } });
  expect(line.endsWith("\n")).toBe(true);
  expect(JSON.parse(line)).toEqual({
    id: 7,
    operator: "layer",
    inputs: {
      limit: "Infinity",
      outputs: inputs.outputs,
      weights: { gate: { shape: [2], dtype: "bf16", data: "gD+Avw==" } },
    },
  });
  expect(readAnswer('{"outputs": {"y": "gD+Avw=="}}', inputs.outputs)).toEqual({ y: Uint16Array.of(0x3f80, 0xbf80) });
  expect(readAnswer('{"outputs": {"y": [1, -1]}}', inputs.outputs)).toEqual({ y: [1, -1] });
  expect(readAnswer('{"unsupported": "bf16"}', inputs.outputs)).toBeNull();
  expect(readAnswer('{"outputs": {"y": [1, -1], "constructor": "AAAA"}}', inputs.outputs)).toHaveProperty("y");
});

test("a subject of this process may say null for what it does not support", async () => {
  const subject: Subject = { name: "none", operators: { permute: () => null } };
  const report = await runCases(subject, { filter: "R33" });
  expect(report).toMatchObject({ passed: false, results: [] });
  expect(report.skipped).toHaveLength(3);
});

describe("after its time is up", () => {
  // The time passes at once, however long the program takes to start.
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const program = (source: string) => processSubject("sh", { args: ["-c", source], timeout: 7 });

  // The second one's own process goes on, and holds the pipe.
  test.each(["exec sleep 1000", "sleep 5 2>&-; true"])(
    "a process that does not answer is killed: %s",
    async (silent) => {
      const refused = expect(program(silent)).rejects.toThrow(/command: .*sh: it did not answer within 7 seconds/);
      vi.advanceTimersByTime(7000);
      await refused;
    },
  );

  test("a process that does not end is killed", async () => {
    const subject = await program(`echo '{"name": "slow", "operators": ["permute"]}'; exec sleep 1000`);
    const closed = subject.close?.();
    vi.advanceTimersByTime(7000);
    await closed;
  });
});

test("numbers that JSON lacks are texts in lists too", () => {
  const expected = { y: { shape: [4], dtype: "f32" } };
  const answer = (list: unknown) => readAnswer(JSON.stringify({ outputs: { y: list } }), expected);
  expect(answer([1, "NaN", "-Infinity", "Infinity"])).toEqual({ y: [1, Number.NaN, -Infinity, Infinity] });
  expect(answer([1, "2", null, []])).toEqual({ y: [1, "2", null, []] });
});

test("what is wrong with an answer's JSON is said, such as a bare NaN", () => {
  const line = `{"id": 1, "outputs": {"y": [${"0.25, ".repeat(30)}NaN]}}`;
  expect(wrongAnswer(line, 1)).toMatch(/^answer: expected JSON such as .*, got .*\.\.\. \(Unexpected token '?N/);
});

test("more than a line can hold is refused, with the size", () => {
  const half = { data: new Uint8Array(2 ** 28), shape: [2 ** 28], dtype: "u8" };
  expect(() => requestLine(1, "permute", { x: half, weight: { codes: half } })).toThrow(
    /inputs: expected tensors of at most 383 MiB together for a subject in another process, .*, got 512 MiB/,
  );
});
