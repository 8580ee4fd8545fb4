import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  parseSafetensors,
  SafetensorsFile,
  ShardedCheckpoint,
  serializeSafetensors,
  writeSafetensors,
} from "../lib/checkpoint/safetensors/index.js";
import * as api from "../lib/index.js";

// Calls every public function that takes options with an option that does not exist, with each of its options misspelt,
// and with getters that return something else when they are read again.

// biome-ignore lint/suspicious/noExplicitAny: options of every function, valid and not
type Options = any;

interface Call {
  readonly name: string;
  run(options: Options): unknown;
  /** Accepted options that together have every name that the function knows. */
  readonly valid: readonly Options[];
}

const device = api.openDevice("reference");
const directory = mkdtempSync(join(tmpdir(), "moe-kernels-options-"));
afterAll(() => {
  device.dispose();
  rmSync(directory, { recursive: true });
});

const floats = (...shape: number[]) => device.zeros(shape, "f32");
const integers = (...shape: number[]) => device.zeros(shape, "i32");
const tokenMask = device.zeros([4], "u8");
const routing = () => ({ ids: integers(4, 2), weights: floats(4, 2) });
const [T, H, E] = [4, 3, 6];
const logits = floats(T, E);

const rule = {
  topK: 2,
  scoring: "softmax",
  selectionKey: "score",
  groups: { count: 3, top: 2, score: "max" },
  normalize: { by: "clamped_sum", epsilon: 0.1 },
  scale: 2,
};
const size = { factor: 1, round: "up", minimum: 1, multipleOf: 2 };
const capacity = { ...size, per: "sequence", drop: "position", renormalize: { by: "kept", scale: 2 } };

const sizes = { device, dtype: "f32", hiddenSize: H, intermediateSize: 2, numExperts: E, topK: 2 };
const weight = (...shape: number[]) => ({ tensor: floats(...shape), orient: "out_in" });
const stacked = (...shape: number[]) => ({ tensor: floats(E, ...shape), orient: "out_in", stacked: "dim0" });
const experts = { gate: stacked(2, H), up: stacked(2, H), down: stacked(H, 2) };
const biases = { gateBias: stacked(2), upBias: stacked(2), downBias: stacked(H) };
const one = () => ({
  gate: floats(2, H),
  up: { tensor: floats(4, H), part: "even" },
  factor: floats(2, H),
  down: floats(H, 2),
});
const plain = { ...sizes, router: weight(E, H), experts };
const noisy = api.MoeLayer.create({ ...plain, noisy: {}, noiseRouter: floats(E, H) } as Options);
const hierarchical = {
  ...plain,
  hierarchy: { numGroups: 2, ...rule, topK: 1, groups: { count: 1, top: 1 } },
  noisy: { epsilon: 0.1 },
  noiseRouter: weight(E, H),
  groupRouter: weight(2, H),
  groupRouterBias: weight(2),
  groupNoiseRouter: weight(2, H),
};

const file = join(directory, "tensors.safetensors");
const tensors = { x: { dtype: "U8", shape: [1], data: Uint8Array.of(1) } } as const;
await writeSafetensors(file, tensors);
const opened = await SafetensorsFile.open(file);
afterAll(() => opened.close());
const transfer = { onProgress: () => {}, signal: new AbortController().signal };

const stats = new api.RouterStats(device, { numExperts: E });
stats.record(logits, routing());
const history = await stats.read();

const calls: readonly Call[] = [
  {
    name: "openDevice",
    run: (o) => api.openDevice("reference", o).dispose(),
    valid: [{ threads: 1, poison: true, tf32: true }],
  },
  {
    name: "routerProjection",
    run: (o) => api.routerProjection(floats(T, H), floats(E, H), o),
    valid: [{ bias: floats(E), out: floats(T, E) }],
  },
  {
    name: "gating",
    run: (o) => api.gating(logits, o),
    valid: [
      { ...rule, selectionBias: floats(E), out: routing() },
      { topK: 2, scoring: "sparsemixer", jitter: 0.1, normalize: { by: "lp", power: 2 } },
    ],
  },
  {
    name: "hierarchicalGating",
    run: (o) => api.hierarchicalGating(floats(T, 2), logits, o),
    valid: [
      { groups: { topK: 1, normalize: true }, experts: { ...rule, groups: { count: 3, top: 2 } }, out: routing() },
    ],
  },
  {
    name: "limitCapacity",
    run: (o) => api.limitCapacity(routing(), o),
    valid: [
      { numExperts: E, ...capacity, sequenceLength: 2, out: routing() },
      { numExperts: E, tokens: 1 },
    ],
  },
  { name: "expertCapacity", run: (o) => api.expertCapacity(o, T, 2, E), valid: [size, { tokens: 1 }] },
  {
    name: "expertChoice",
    run: (o) => api.expertChoice(logits, o),
    valid: [
      {
        ...size,
        scoring: "sigmoid",
        out: { tokens: integers(E, 2), tokenWeights: floats(E, 2), ids: integers(T, E), weights: floats(T, E) },
      },
      { tokens: 1 },
    ],
  },
  {
    name: "expertSlots",
    run: (o) => api.expertSlots(integers(T, 2), o),
    valid: [{ numExperts: E, capacity: 2, out: integers(E, 2) }],
  },
  {
    name: "sort",
    run: (o) => api.sort(integers(T, 2), o),
    valid: [
      {
        numExperts: E,
        out: {
          offsets: integers(E + 1),
          tokensPerExpert: integers(E),
          tokenOfRow: integers(2 * T),
          rowOfSlot: integers(T, 2),
        },
      },
    ],
  },
  { name: "permute", run: (o) => api.permute(floats(T, H), integers(5), o), valid: [{ out: floats(5, H) }] },
  { name: "unpermute", run: (o) => api.unpermute(floats(5, H), integers(T, 2), o), valid: [{ out: floats(T, 2, H) }] },
  {
    name: "combine",
    run: (o) => api.combine(floats(5, H), integers(T, 2), floats(T, 2), o),
    valid: [{ out: floats(T, H) }],
  },
  {
    name: "packExperts",
    run: (o) => api.packExperts(floats(E, 4, H), o).dispose(),
    valid: [{ activation: "swiglu_clamped", clamp: { alpha: 1, limit: 2, offset: 3 } }],
  },
  {
    name: "groupedGemm",
    run: (o) => api.groupedGemm(floats(T, H), floats(E, 4, H), integers(E + 1), o),
    valid: [
      {
        activation: "swiglu_clamped",
        clamp: { limit: 2 },
        tokenOfRow: integers(5),
        bias: floats(E, 4),
        out: floats(5, 2),
      },
    ],
  },
  {
    name: "random",
    run: (o) => api.random(device, [T, E], o),
    valid: [{ seed: 1n, distribution: "normal", offset: 3, out: floats(T, E) }],
  },
  { name: "jitter", run: (o) => api.jitter(floats(T, H), o), valid: [{ epsilon: 0.1, seed: 1, out: floats(T, H) }] },
  {
    name: "noisyLogits",
    run: (o) => api.noisyLogits(logits, logits, o),
    valid: [
      { seed: 1, offset: 2, epsilon: 0.1, out: { logits: floats(T, E), deviation: floats(T, E) } },
      { noise: floats(T, E) },
    ],
  },
  {
    name: "expertLoad",
    run: (o) => api.expertLoad(logits, logits, logits, o),
    valid: [{ topK: 2, groups: { ids: integers(T, 1), load: floats(2) }, tokenMask, out: floats(E) }],
  },
  { name: "accumulate", run: (o) => api.accumulate(floats(T, 2), floats(T), o), valid: [{ factor: 2 }] },
  {
    name: "columnMeans",
    run: (o) => api.columnMeans(logits, o),
    valid: [{ sequences: 2, square: true, tokenMask, out: floats(2, E) }],
  },
  {
    name: "expertTotals",
    run: (o) => api.expertTotals(integers(T, 2), o),
    valid: [
      {
        numExperts: E,
        weights: floats(T, 2),
        sequences: 2,
        choices: 1,
        tokenMask,
        out: { tokens: integers(2, E), dropped: integers(2), weights: floats(2, E) },
      },
    ],
  },
  { name: "cvSquared", run: (o) => api.cvSquared(floats(E), o), valid: [{ unbiased: true, epsilon: 1 }] },
  {
    name: "loadBalancingLoss",
    run: (o) => api.loadBalancingLoss(logits, integers(T, 2), o),
    valid: [{ scoring: "sigmoid", sequences: 2, choices: "first", normalization: "tokens", tokenMask }],
  },
  {
    name: "routerScores",
    run: (o) => api.routerScores(logits, o),
    valid: [
      { scoring: "sigmoid", normalize: true, out: { scores: floats(T, E), logSumExp: floats(T), entropy: floats(T) } },
    ],
  },
  {
    name: "routerStatistics",
    run: (o) => api.routerStatistics(logits, integers(T, 2), o),
    valid: [{ sequences: 2, tokenMask }],
  },
  {
    name: "updateSelectionBias",
    run: (o) => api.updateSelectionBias(floats(E), integers(1, E), o),
    valid: [{ rate: 0.1, out: floats(E) }],
  },
  { name: "zLoss", run: (o) => api.zLoss(logits, o), valid: [{ tokenMask }] },
  { name: "heatMap", run: (o) => api.heatMap(history, o), valid: [{ columns: 30, color: true }] },
  { name: "RouterStats", run: (o) => new api.RouterStats(device, o).dispose(), valid: [{ numExperts: E, windows: 4 }] },
  { name: "RouterStats.record", run: (o) => stats.record(logits, routing(), o), valid: [{ tokenMask }] },
  {
    name: "writeRouterReport",
    run: (o) => api.writeRouterReport(history, join(directory, "report.svg"), o),
    valid: [{ title: "Layer" }],
  },
  {
    name: "MoeLayer.create",
    run: (o) => api.MoeLayer.create(o).dispose(),
    valid: [
      {
        ...plain,
        ...rule,
        experts: { ...experts, ...biases },
        routerBias: weight(E),
        selectionBias: weight(E),
        activation: "swiglu_clamped",
        clamp: { limit: 2 },
        outputActivation: "none",
        weightOn: "output",
        sharedExpert: { intermediateSize: 2, gate: "sigmoid" },
        shared: { gate: floats(2, H), up: weight(2, H), down: floats(H, 2) },
        sharedGate: weight(1, H),
        sharedGateBias: weight(1),
        capacity,
      },
      { ...plain, factor: true, experts: Array.from({ length: E }, one), routerJitter: 0.1 },
      { ...plain, topK: E, expertChoice: { tokens: 1 } },
      hierarchical,
      { ...plain, scoring: "sparsemixer", jitter: 0.1 },
    ],
  },
  {
    name: "MoeLayer.load",
    run: (o) => api.MoeLayer.load(join(directory, "none"), o).catch(noModel),
    valid: [
      { layer: 0, device, dtype: "f32", cache: false, onProgress: () => {}, signal: transfer.signal },
      { layer: 0, device, cache: { folder: directory, copy: true } },
    ],
  },
  {
    name: "MoeLayer.forward",
    run: (o) => noisy.forward(floats(T, H), o),
    valid: [{ routing: routing(), out: floats(T, H) }, { training: { seed: 1 } }],
  },
  { name: "MoeLayer.route", run: (o) => noisy.route(floats(T, H), o), valid: [{ training: { noise: floats(T, E) } }] },
  {
    name: "MoeLayer.trainingLogits",
    run: (o) => {
      using layer = api.MoeLayer.create(hierarchical as Options);
      return layer.trainingLogits(floats(T, H), o);
    },
    valid: [{ noise: floats(T, E), groupNoise: floats(T, 2) }, { seed: 1 }],
  },
  { name: "MoeLayer.capture", run: (o) => noisy.capture(T, o).dispose(), valid: [{ dtype: "f16" }] },
  {
    name: "writeSafetensors",
    run: (o) => writeSafetensors(join(directory, "new.safetensors"), tensors, o),
    valid: [{ metadata: { a: "b" }, alignment: 64, ...transfer }],
  },
  {
    name: "serializeSafetensors",
    run: (o) => serializeSafetensors(tensors, o),
    valid: [{ metadata: {}, alignment: 64 }],
  },
  {
    name: "SafetensorsFile.open",
    run: async (o) => (await SafetensorsFile.open(file, o)).close(),
    valid: [{ signal: transfer.signal }],
  },
  {
    name: "ShardedCheckpoint.open",
    run: (o) => ShardedCheckpoint.open(directory, o).catch(noModel),
    valid: [{ signal: transfer.signal }],
  },
  { name: "SafetensorsFile.read", run: (o) => opened.read("x", o), valid: [transfer] },
  { name: "SafetensorsFile.readInto", run: (o) => opened.readInto("x", new Uint8Array(1), o), valid: [transfer] },
  { name: "SafetensorsFile.readRange", run: (o) => opened.readRange("x", 0, new Uint8Array(1), o), valid: [transfer] },
];

/** Loading fails only at the model, which does not exist. */
function noModel(error: unknown): void {
  if (!api.isMoeError(error, "BAD_CHECKPOINT")) throw error;
}

const withoutOptions = ["listDevices", "isMoeError", "maximumViolation", "readTotals"];
const classes = ["Device", "Tensor", "MoeError", "CapturedForward", "PackedExperts", "MoeLayer", "RouterStats"];

test("every public function is here", () => {
  const known = [...withoutOptions, ...classes, ...calls.map(({ name }) => name)];
  expect(Object.keys(api).filter((name) => !known.includes(name))).toEqual([]);
  expect(parseSafetensors.length).toBe(1);
});

/** Objects that are options or groups of them, but neither tensors nor functions. */
function isOptions(value: unknown): value is Record<string, unknown> {
  const prototype = typeof value === "object" && value !== null ? Object.getPrototypeOf(value) : undefined;
  return prototype === Object.prototype || prototype === Array.prototype;
}

/** Paths of every field in options, except in maps whose names the user chooses. */
function paths(options: Record<string, unknown>, prefix: readonly string[] = []): string[][] {
  return Object.entries(options).flatMap(([name, value]) => {
    const path = [...prefix, name];
    return [path, ...(isOptions(value) && name !== "metadata" ? paths(value, path) : [])];
  });
}

/** A copy in which `change` has been applied to the object that holds the field at `path`. */
function changed(options: Options, [name, ...rest]: readonly string[], change: (object: Options) => void): Options {
  const copy = Array.isArray(options) ? [...options] : { ...options };
  if (name === undefined) change(copy);
  else copy[name] = changed(options[name], rest, change);
  return copy;
}

/** Options whose fields, at every depth, return something else when they are read a second time. */
function readableOnce(options: Record<string, unknown>, reads: Map<string, number>, prefix = ""): object {
  if (Array.isArray(options)) {
    return options.map((entry, index) => (isOptions(entry) ? readableOnce(entry, reads, `${prefix}${index}.`) : entry));
  }
  const result = {};
  for (const [name, value] of Object.entries(options)) {
    const path = prefix + name;
    reads.set(path, 0);
    const first = isOptions(value) && name !== "metadata" ? readableOnce(value, reads, `${path}.`) : value;
    const get = () => {
      reads.set(path, (reads.get(path) as number) + 1);
      return reads.get(path) === 1 ? first : -1e9;
    };
    Object.defineProperty(result, name, { get, enumerable: true });
  }
  return result;
}

async function messageOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    if (api.isMoeError(error, "INVALID_ARGUMENT")) return error.message;
    throw error;
  }
  return "no error";
}

/** Records of tensors, which may have more fields: see `results`. */
const isRecord = (path: readonly string[]) => path[0] === "out" || path[0] === "routing";

describe.each(calls)("$name", ({ run, valid }) => {
  test("takes its options", async () => {
    for (const options of valid) await run(options);
  });

  test("refuses an option that does not exist", async () => {
    for (const options of valid) {
      const groups = paths(options).filter((path) => isOptions(at(options, path)) && path.at(-1) !== "metadata");
      for (const path of [[], ...groups]) {
        if (isRecord(path) || Array.isArray(at(options, path))) continue;
        const bad = changed(options, path, (object) => {
          object.zzzzzzzzz = 1;
        });
        expect(await messageOf(() => run(bad))).toMatch(/: there is no option "zzzzzzzzz"; expected /);
      }
    }
  });

  test("suggests the name that was meant", async () => {
    for (const options of valid) {
      for (const path of paths(options)) {
        const name = path.at(-1) as string;
        const owner = path.slice(0, -1);
        if (Array.isArray(at(options, owner))) continue;
        const bad = changed(options, owner, (object) => {
          object[`${name}${name.at(-1)}`] = object[name];
          delete object[name];
        });
        const message = await messageOf(() => run(bad));
        if (isRecord(owner)) expect(message).toBe(`${path.join(".")}: expected a Tensor, got undefined`);
        else expect(message).toContain(`there is no option "${name}${name.at(-1)}"; did you mean "${name}"?`);
      }
    }
  });

  test("reads every option once", async () => {
    for (const options of valid) {
      const reads = new Map<string, number>();
      await run(readableOnce(options, reads));
      expect([...reads].filter(([, count]) => count !== 1)).toEqual([]);
    }
  });
});

function at(options: Options, path: readonly string[]): Options {
  return path.reduce((object, name) => object[name], options);
}
