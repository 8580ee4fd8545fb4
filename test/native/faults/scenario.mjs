// Repeats one phase on one device, and makes another system call of the addon fail each time:
//   node --expose-gc scenario.mjs MODULE DEVICE PHASE KIND HOW EVERY [SITE...]
// MODULE is the compiled faults.cc, which must be preloaded and says what KIND, HOW, EVERY and the SITEs are. Prints
// `end OUTCOME` for every run, and `sites N` once a run had no new call to fail. A run must give the right numbers or an
// expected MoeError, its outputs must do the same when they are read again, and the phase must then work on the same
// device.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  AdamW,
  combine,
  gating,
  MoeError,
  MoeLayer,
  OffloadBudget,
  openDevice,
  permute,
  sort,
} from "../../../dist/index.js";
import { randomLayer } from "../../../dist/testing/index.js";

const [, , modulePath, deviceName, phaseName, kind, how, every, ...known] = process.argv;
const faults = createRequire(import.meta.url)(modulePath);
const model = fileURLToPath(new URL("../../golden/families/qwen2_moe", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "moe-faults-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

const small = deviceName !== "cpu";
const tokens = small ? 5 : 64;
const config = {
  hiddenSize: small ? 32 : 128,
  intermediateSize: small ? 32 : 128,
  numExperts: 6,
  topK: 2,
  activation: "swiglu",
};

function open() {
  return openDevice(deviceName, { threads: 3 });
}

function tokensOn(device, hidden = config.hiddenSize) {
  return device.tensor(
    Float32Array.from({ length: tokens * hidden }, (_, i) => Math.sin(i)),
    [tokens, hidden],
  );
}

const layerOn = (device) => randomLayer(device, config, "bf16", 1);

/** Opens a device and reads from it. */
async function openAndRead() {
  const device = open();
  try {
    return [await tokensOn(device).data()];
  } finally {
    device.dispose();
  }
}

/** The outputs of a layer, which it disposes of. */
async function outputsOf(layer, device) {
  try {
    return await layer.forward(tokensOn(device, layer.description.hiddenSize)).data();
  } finally {
    layer.dispose();
  }
}

const opened = () => ({ device: open() });

async function openedWithLayer() {
  const { device } = opened();
  return { device, layer: await layerOn(device), x: tokensOn(device) };
}

/** A device, and what loads layers of a model with offload on it. */
function openedForOffload() {
  const device = open();
  const cache = deviceName === "cpu" && mkdtempSync(join(scratch, "cache-"));
  return { device, load: (offload) => MoeLayer.load(model, { layer: 0, device, cache, offload }) };
}

/**
 * What runs while calls fail. `prepare` creates what a phase needs. `act` returns its numbers, and adds the tensors that
 * they come from to `left`, in the same order. Numbers are the same bits every time, or within `tolerance` of the largest
 * one.
 */
const phases = {
  addon: { prepare: () => ({}), act: openAndRead },
  open: { prepare: () => ({}), act: openAndRead },
  close: {
    prepare: () => ({}),
    async act() {
      const device = open();
      try {
        const values = tokensOn(device).data();
        values.catch(() => {}); // close() fails with the same error
        await device.close();
        return [await values];
      } finally {
        device.dispose();
      }
    },
  },
  create: {
    prepare: opened,
    act: async ({ device }) => [await outputsOf(await layerOn(device), device)],
  },
  load: {
    prepare: opened,
    act: async ({ device }) => [await outputsOf(await MoeLayer.load(model, { layer: 0, device }), device)],
  },
  cache: {
    prepare: () => ({ device: open(), folder: mkdtempSync(join(scratch, "cache-")) }),
    async act({ device, folder }) {
      const options = { layer: 0, device, cache: folder };
      const written = await outputsOf(await MoeLayer.load(model, options), device);
      return [written, await outputsOf(await MoeLayer.load(model, options), device)];
    },
  },
  forward: {
    prepare: openedWithLayer,
    async act({ layer, x, left }) {
      left.push(layer.forward(x));
      left.push(layer.forward(left[0]));
      return Promise.all(left.map((y) => y.data()));
    },
  },
  offload: {
    async prepare() {
      const { device, load } = openedForOffload();
      const layer = await load({ slots: 1 });
      return { device, layer, x: tokensOn(device, layer.description.hiddenSize) };
    },
    async act({ layer, x, left }) {
      left.push(layer.forward(x));
      layer.offload.prefetch([2]);
      left.push(layer.forward(left[0]));
      return Promise.all(left.map((y) => y.data()));
    },
  },
  // Layers of one budget, of which one joins and leaves.
  budget: {
    async prepare() {
      const { device, load } = openedForOffload();
      const budget = new OffloadBudget(device, { slots: 2 });
      const layers = [await load({ budget }), await load({ budget })];
      return { device, layers, join: () => load({ budget }), x: tokensOn(device, layers[0].description.hiddenSize) };
    },
    async act({ device, layers, join, x, left }) {
      left.push(layers[0].forward(x));
      layers[1].offload.prefetch([2]);
      left.push(layers[1].forward(left[0]));
      const numbers = await Promise.all(left.map((y) => y.data()));
      return [...numbers, await outputsOf(await join(), device)];
    },
  },
  // Experts that the CPU computes, beside a layer that loads them.
  split: {
    tolerance: 1e-5,
    async prepare() {
      const { device, load } = openedForOffload();
      const budget = new OffloadBudget(device, { slots: 2 });
      const layers = [await load({ budget, onMiss: "cpu" }), await load({ budget })];
      return { device, layers, x: tokensOn(device, layers[0].description.hiddenSize) };
    },
    async act({ layers, x, left }) {
      left.push(layers[0].forward(x));
      left.push(layers[1].forward(x));
      left.push(layers[0].forward(x));
      return Promise.all(left.map((y) => y.data()));
    },
  },
  capture: {
    prepare: openedWithLayer,
    async act({ layer, left }) {
      const captured = layer.capture(tokens, { dtype: "f32" });
      captured.x.write(Float32Array.from({ length: tokens * config.hiddenSize }, (_, i) => Math.cos(i)));
      captured.replay();
      left.push(captured.y);
      return [await captured.y.data()];
    },
  },
  operators: {
    prepare: openedWithLayer,
    async act({ layer, x, left }) {
      const logits = layer.routerLogits(x);
      left.push(logits);
      const { ids, weights } = gating(logits, { topK: 2 });
      left.push(ids, weights);
      const { tokenOfRow, rowOfSlot } = sort(ids, { numExperts: config.numExperts });
      left.push(tokenOfRow, rowOfSlot);
      left.push(combine(permute(x, tokenOfRow), rowOfSlot, weights));
      return Promise.all(left.map((tensor) => tensor.data()));
    },
  },
  // Memory of others is released once if it was wrapped, and not at all if it was not.
  foreign: {
    prepare() {
      const { device } = opened();
      const memory = device.tensor(Float32Array.of(1, 2, 3));
      return { device, memory, address: memory.toDLPack().data };
    },
    async act({ device, address }) {
      let released = 0;
      let wrapped;
      try {
        wrapped = device.wrapPointer(address, [3], "f32", { release: () => ++released });
        return [await wrapped.data()];
      } finally {
        wrapped?.dispose();
        for (let turn = 0; turn < 100 && released < 1; turn++) await new Promise(setImmediate);
        assert.equal(released, wrapped ? 1 : 0);
      }
    },
  },
  training: {
    prepare: openedWithLayer,
    async act({ device, layer, x, left }) {
      const { y, state } = layer.forward(x, { save: true });
      left.push(y);
      const { dx, gradients } = layer.backward(state, y);
      left.push(dx, gradients.router, gradients.experts[1].down);
      const parameter = { name: "x", value: device.tensor(new Float32Array(x.size).fill(1), x.shape), gradient: dx };
      new AdamW([parameter], { learningRate: 0.1, maxNorm: 1 }).step();
      left.push(parameter.value);
      return Promise.all(left.map((tensor) => tensor.data()));
    },
  },
  data: {
    prepare: opened,
    async act({ device }) {
      const values = Float32Array.from({ length: 24 }, (_, i) => i);
      const tensor = device.tensor(values, [4, 6], "bf16");
      const before = tensor.dataSync();
      tensor.write(values.map((value) => 2 * value));
      const zeros = device.zeros([3], "i32").dataSync();
      return [before, await tensor.data(), await tensor.raw(), tensor.rows(1, 3).rawSync(), zeros];
    },
  },
};

const phase = phases[phaseName];
// The addon is loaded once in a process, so nothing may load it before.
const expected = phaseName === "addon" ? undefined : await numbersOf();
faults.printSites();
for (;;) {
  const { sites, failed, outcome } = await run();
  console.log(`end ${outcome}`);
  if (!failed) console.log(`sites ${sites}`);
  if (!failed || phaseName === "addon") break;
}

async function numbersOf() {
  const state = { left: [], ...(await phase.prepare()) };
  const values = await phase.act(state);
  state.device?.dispose();
  return values;
}

async function run() {
  const state = { left: [], ...(await phase.prepare()) };
  faults.arm(kind, how, Number(every), known);
  let outcome = await outcomeOf(() => phase.act(state));
  if (state.device) await outcomeOf(() => state.device.synchronize());
  const { sites, failed } = faults.disarm();
  if (state.device) await outcomeOf(() => state.device.synchronize());
  // Outputs must still give the right numbers or an error.
  if (expected) {
    for (const [index, tensor] of state.left.entries()) {
      const kept = await outcomeOf(async () => [await tensor.data()], [expected[index]]);
      if (/^wrong/.test(kept)) outcome = `${kept} in output ${index} after ${outcome}`;
    }
  }
  state.left = [];
  const again = await outcomeOf(() => phase.act(state));
  if (again !== "done") outcome = `wrong: ${again} when done again, after ${outcome}`;
  state.device?.dispose();
  // What is left of a `simt` device has a mapping for each of its threads' stacks, and a process may have 65,530.
  globalThis.gc();
  await new Promise(setImmediate);
  return { sites, failed, outcome };
}

/** `done` if the numbers are right, `error CODE` for an expected error, else `wrong: ` and what is wrong. */
async function outcomeOf(work, wanted = expected) {
  try {
    const values = await work();
    if (values === undefined || wanted === undefined) return "done";
    return values.every((value, index) => same(value, wanted[index])) ? "done" : "wrong: other numbers";
  } catch (error) {
    const known = error instanceof MoeError && ["OUT_OF_MEMORY", "INTERNAL"].includes(error.code);
    return known ? `error ${error.code}` : `wrong: ${error?.stack ?? error}`.replaceAll("\n", " ");
  }
}

function same(a, b) {
  if (a.constructor !== b.constructor || a.length !== b.length) return false;
  const { tolerance } = phase;
  if (tolerance === undefined) return Buffer.compare(bytes(a), bytes(b)) === 0;
  const most = tolerance * b.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  return a.every((value, index) => Math.abs(value - b[index]) <= most);
}

function bytes(array) {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}
