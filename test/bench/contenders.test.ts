import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { runBenchmark } from "../../lib/bench/index.js";
import { openDevice } from "../../lib/devices.js";
import { deviceSubject, processSubject, type Subject, type SubjectOperator } from "../../lib/testing/index.js";
import type { UntypedOperator } from "../../lib/testing/subject/subject.js";

const reference = openDevice("reference");
afterAll(() => reference.dispose());
const { combine, sort } = deviceSubject(reference).operators as {
  readonly [Name in "combine" | "sort"]: SubjectOperator<Name>;
};

const shapes = { tiny: { hiddenSize: 16, intermediateSize: 8, numExperts: 4, topK: 2 } };

/** What contenders did with each case of `operators`, by name. */
async function timed(operators: readonly string[], ...contenders: Subject[]) {
  const { groups } = await runBenchmark({
    shapes,
    device: "reference",
    dtypes: ["f32"],
    tokens: [3],
    operators,
    seconds: 0.001,
    rounds: 3,
    weightBytes: 0,
    contenders,
  });
  const results = groups[0]?.results ?? [];
  return Object.fromEntries(results.map(({ name, contenders: theirs }) => [name, theirs]));
}

const right: Subject = { name: "right", operators: { combine, sort } };
const ranked = { failure: null, leftOut: null, timesOurs: { samples: 3 } };
const notRanked = { total: null, timesOurs: null };

/** Computes `combine` this many times; what it does then. */
function until(calls: number, then: () => unknown): Subject {
  let done = 0;
  const run: typeof combine = (inputs) => (done++ < calls ? combine(inputs) : (then() as null));
  return { name: "until", operators: { combine: run, sort } };
}

function fail(): never {
  throw new Error("out of memory");
}

describe("a contender that fails while it is timed", () => {
  test.each([
    ["at once", 1, fail],
    ["in a later round", 3, fail],
    ["in a promise", 2, async () => fail()],
  ] as const)("%s is not ranked, and all others are", async (_, calls, then) => {
    const { combine: cases, sort: next } = await timed(["combine", "sort"], until(calls, then), right);
    expect(cases).toMatchObject([
      { name: "until", failure: "in a timed call: out of memory", leftOut: null, ...notRanked },
      { name: "right", ...ranked },
    ]);
    expect(cases?.[0]?.errors).toMatchObject([{ output: "y" }]);
    expect(next).toMatchObject([ranked, ranked]);
  });

  test("by returning nothing is told so, and by null is left out", async () => {
    const contenders = [() => undefined, () => null].map((then) => until(2, then));
    const cases = await timed(["combine"], ...contenders);
    expect(cases.combine).toMatchObject([
      { failure: "in a timed call: expected an object with the outputs, got undefined", ...notRanked },
      { failure: null, leftOut: "it does not support this case", ...notRanked },
    ]);
  });

  test("because its process ends is not ranked in this case and the next ones", async () => {
    const peer = await processSubject(process.execPath, {
      args: [join("test", "testing", "peer.mjs"), "ends at the second call"],
    });
    const all = await timed(["permute", "sgd"], peer);
    const ended = /expected a process that answers, got .* it ended with code 3/;
    expect(all.permute).toMatchObject([{ failure: expect.stringMatching(`^in a timed call: .*${ended.source}`) }]);
    expect(all.sgd).toMatchObject([{ failure: expect.stringMatching(ended) }]);
  });
});

describe("a contender that is right at first", () => {
  test.each([
    ["gives nothing later", () => ({}), /^after the timed calls: y: expected an array of the 48 values/],
    ["is wrong later", () => ({ y: new Float32Array(48) }), /^after the timed calls: wrong results \(y: /],
  ] as const)("and %s is not ranked, and all others are", async (_, later, failure) => {
    const { combine: cases } = await timed(["combine"], until(2, later), right);
    expect(cases?.[0]).toMatchObject({ name: "until", failure: expect.stringMatching(failure), ...notRanked });
    expect(cases?.[1]).toMatchObject({ name: "right", ...ranked });
  });
});

test.each(["layer", "combine"] as const)("a contender that keeps results of %s is not ranked", async (operator) => {
  const { [operator]: computed } = deviceSubject(reference).operators as Record<string, UntypedOperator>;
  const kept = new Map<unknown, ReturnType<UntypedOperator>>();
  const remembers: UntypedOperator = (inputs) => {
    const key = (inputs.x ?? inputs.rows).data;
    const result = kept.get(key) ?? (computed as UntypedOperator)(inputs);
    kept.set(key, result);
    return result;
  };
  const contenders = [computed, remembers].map((run, index) => ({
    name: `${index}`,
    operators: { [operator]: run },
  }));
  const { [operator]: cases } = await timed([operator], ...(contenders as Subject[]));
  expect(cases).toMatchObject([
    ranked,
    { failure: expect.stringMatching(/^after the timed calls: wrong results \(y: /), ...notRanked },
  ]);
});

describe("a contender that changes its inputs", () => {
  /** Computes `combine`, then spoils its inputs, from the n-th call on. */
  function spoils(from: number): Subject {
    let calls = 0;
    const run: typeof combine = async (inputs) => {
      const outputs = await combine(inputs);
      if (++calls >= from) inputs.rows.data.fill(Number.NaN);
      return outputs;
    };
    return { name: "spoils", operators: { combine: run } };
  }

  test("spoils no other's", async () => {
    const { combine: cases } = await timed(["combine"], spoils(1), right);
    expect(cases).toMatchObject([
      { name: "spoils", failure: "it changed its input rows", ...notRanked },
      { name: "right", ...ranked },
    ]);
  });

  test("in later calls is found, and nobody is ranked who took turns with it", async () => {
    expect((await timed(["combine"], spoils(2))).combine).toMatchObject([
      { failure: "in the timed calls it changed the input rows", ...notRanked },
    ]);
    const { combine: cases } = await timed(["combine"], spoils(2), right);
    const failure = "in the timed calls a contender changed the input rows";
    expect(cases).toMatchObject([
      { failure, ...notRanked },
      { failure, ...notRanked },
    ]);
  });

  test("spoils no weights of the next numbers of tokens", async () => {
    const spoilsWeights: Subject = {
      name: "spoils",
      operators: {
        groupedGemm({ weight }) {
          (weight as { data: Float32Array }).data.fill(0);
          throw new Error("no such product");
        },
      },
    };
    const { groupedGemm } = deviceSubject(reference).operators as { groupedGemm: SubjectOperator<"groupedGemm"> };
    const { groups } = await runBenchmark({
      ...{ shapes, device: "reference", dtypes: ["f32"], tokens: [1, 3], operators: ["groupedGemm"] },
      ...{ seconds: 0.001, rounds: 1, weightBytes: 0 },
      contenders: [spoilsWeights, { name: "right", operators: { groupedGemm } }],
    });
    const asked = groups[0]?.results.filter(({ contenders }) => contenders.length > 0) ?? [];
    expect(asked.length).toBeGreaterThan(1);
    for (const { contenders } of asked) {
      expect(contenders).toMatchObject([{ failure: "no such product" }, { failure: null, leftOut: null }]);
    }
  });
});

test("a contender whose supports() throws fails its cases, and all others are timed", async () => {
  const picky: Subject = {
    ...right,
    name: "picky",
    supports: (operator) => operator !== "combine" || fail(),
  };
  const { combine: cases, sort: next } = await timed(["combine", "sort"], picky, right);
  expect(cases).toMatchObject([
    { name: "picky", failure: "supports: out of memory", leftOut: null, ...notRanked },
    { name: "right", ...ranked },
  ]);
  expect(next).toMatchObject([ranked, ranked]);
  expect((await timed(["combine"], picky)).combine).toMatchObject([{ failure: "supports: out of memory" }]);
});

test.each([
  [{ calls: 2 }, "contenders cannot be combined with calls"],
  [{ tokenFormats: ["int8"] }, /tokenFormats: expected "none"/],
  [{ operators: ["frobnicate"] }, /operators: expected part of one of/],
  [{ tokens: [0] }, /tokens\[0\]: expected an integer >= 1/],
  [{ round: 1 }, /did you mean "rounds"/],
] as const)("contenders are closed where %j is refused", async (options, message) => {
  const close = vi.fn();
  await expect(runBenchmark({ shapes, ...options, contenders: [{ ...right, close }] })).rejects.toThrow(message);
  expect(close).toHaveBeenCalledOnce();
});

test("contenders are closed where another is none", async () => {
  const close = vi.fn();
  const contenders = [
    { ...right, close },
    { name: "none", operators: {} },
  ];
  await expect(runBenchmark({ shapes, contenders })).rejects.toThrow(/subject\.operators: expected at least one/);
  expect(close).toHaveBeenCalledOnce();
});
