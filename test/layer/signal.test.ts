import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import {
  AdamW,
  MoeLayer,
  type MoeLayerOptions,
  openDevice,
  RouterStats,
  routerProjection,
  type Tensor,
} from "../../lib/index.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";
import { exampleConfig, RandomLayer } from "../support/random_layer.js";

/** Whether the work that writes `y` was done. */
const succeeds = (y: Tensor) =>
  y.data().then(
    () => true,
    () => false,
  );

// An AbortSignal cancels enqueued work that has not begun: what it was to write is ABORTED, and nothing else is.

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);
  const made = (changes = {}) =>
    new RandomLayer(device(), { config: { ...exampleConfig, ...changes }, tokens: 7, dtype: "f32", seed: 1 });

  test("a signal that is not aborted changes nothing, and one that is throws its reason", async () => {
    using random = made();
    const x = random.x as Tensor<"f32">;
    const controller = new AbortController();
    const { signal } = controller;
    const y = await random.layer.forward(x).raw();
    expect(await random.layer.forward(x, { signal }).raw()).toEqual(y);
    const reason = new Error("enough");
    controller.abort(reason);
    expect(() => random.layer.forward(x, { signal })).toThrow(reason);
    // Work after it does not belong to the signal.
    expect(await random.layer.forward(x).raw()).toEqual(y);
  });

  test("what is not a signal is refused by name", () => {
    using random = made();
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    const call = (signal: any) => random.layer.forward(random.x, { signal });
    for (const signal of [{}, 1, null, { throwIfAborted() {} }, AbortSignal]) {
      expectError(() => call(signal), "INVALID_ARGUMENT", /^signal: expected an AbortSignal/);
    }
  });
});

describe.each(deviceNames.filter((name) => name !== "reference"))("enqueued work on %s", (name) => {
  const device = openForTests(name);

  // Work is cancelled while it waits for a product of this many rows and columns. Where this thread was held up longer than
  // the product took, the work had begun: another try, with a larger one.
  const firstSize = name === "simt" ? 64 : 512;

  /** Enqueues a product of size³ multiply-adds. */
  function holdUp(size: number, on = device()) {
    using matrix = on.zeros([size, size], "f32");
    routerProjection(matrix, matrix).dispose();
  }

  /** A layer whose forward is short. */
  function smallLayer(options: Partial<MoeLayerOptions> = {}) {
    const [H, I, E] = [64, 64, 8];
    const random = new Random("small");
    const weight = (...shape: number[]) =>
      device().tensor(
        random.normals(
          shape.reduce((a, b) => a * b, 1),
          0.1,
        ),
        shape,
      );
    const sizes = { hiddenSize: H, intermediateSize: I, numExperts: E, topK: 2, router: weight(E, H) };
    const experts = { gate: weight(E, I, H), up: weight(E, I, H), down: weight(E, H, I) };
    const layer = MoeLayer.create({ device: device(), ...sizes, experts, ...options });
    return { layer, x: device().tensor(random.normals(64 * H), [64, H]) };
  }

  test.each<[string, object]>([
    ["a fused forward", {}],
    ["a forward to save", { save: true }],
    ["a forward with more results", { want: ["routing", "logits"] }],
    ["a forward with a norm", { residual: true, norm: true }],
  ])("%s that has not begun is ABORTED, and the device goes on", async (_, given) => {
    const { layer, x } = smallLayer();
    const expected = await layer.forward(x).raw();
    const norm = { weight: device().tensor(new Float32Array(64).fill(1)) };
    const options = { ...given, ...("norm" in given && { norm }) };
    /** The last of some forwards that a signal aborts while they wait. */
    const aborted = (size: number) => {
      const controller = new AbortController();
      holdUp(size);
      const results = Array.from({ length: 5 }, () =>
        // biome-ignore lint/suspicious/noExplicitAny: options of several kinds
        layer.forward(x, { ...options, signal: controller.signal } as any),
      ) as unknown as (Tensor | { y: Tensor; routing?: { ids: Tensor } })[];
      controller.abort();
      return results.at(-1) as Tensor | { y: Tensor; routing?: { ids: Tensor } };
    };
    let last = aborted(firstSize);
    const output = () => ("y" in last ? last.y : last);
    for (let size = 2 * firstSize; await succeeds(output()); size *= 2) last = aborted(size);
    const after = layer.forward(x);
    const y = output();
    await expectRejection(y.data(), "ABORTED", /aborted by its signal before this work began$/);
    if ("routing" in last && last.routing) await expectRejection(last.routing.ids.data(), "ABORTED", /aborted/);
    // What depends on it is too, and what does not is not; the abort is no error of the device.
    await expectRejection(layer.forward(y as Tensor<"f32">).data(), "ABORTED", /aborted/);
    await device().synchronize();
    expect(await after.raw()).toEqual(expected);
    y.write(new Float32Array(y.size));
    expect((await y.data()) as Float32Array).toEqual(new Float32Array(y.size));
    // What the layer keeps for backward passes is made again.
    const { state } = layer.forward(x, { save: true });
    expect((await layer.backward(state, x).dx.data()).every(Number.isFinite)).toBe(true);
  });

  /** The forward of a layer, which a signal aborts with `reason` while it waits. */
  async function abortedForward(layer: MoeLayer, x: Tensor<"f32">, reason: unknown): Promise<Tensor> {
    for (let size = firstSize; ; size *= 2) {
      const controller = new AbortController();
      holdUp(size, layer.device);
      const y = layer.forward(x, { signal: controller.signal });
      controller.abort(reason);
      if (!(await succeeds(y))) return y;
    }
  }
  const causeOf = async (y: Tensor) =>
    await y.data().then(
      () => expect.unreachable(),
      (error: Error) => error.cause,
    );

  test("what a layer keeps for passes of as many tokens is there after an aborted one", async () => {
    const matrix = () => device().tensor(new Random("latent").normals(64 * 64, 0.1), [64, 64]);
    for (const options of [
      { latent: { size: 64 }, latentDown: matrix(), latentUp: matrix() },
      { numExperts: 9, identityExperts: 1, router: device().tensor(new Random("r").normals(9 * 64, 0.1), [9, 64]) },
    ] as Partial<MoeLayerOptions>[]) {
      const [{ layer, x }, fresh] = [smallLayer(options), smallLayer(options)];
      const expected = await fresh.layer.forward(x, { residual: x }).raw();
      for (let size = firstSize; ; size *= 2) {
        const controller = new AbortController();
        holdUp(size);
        const y = layer.forward(x, { residual: x, signal: controller.signal });
        controller.abort();
        if (!(await succeeds(y))) break;
        layer.forward(x.rows(0, 1)).dispose(); // so that it has to make what it keeps once more
      }
      expect(await layer.forward(x, { residual: x }).raw()).toEqual(expected);
    }
  });

  test("the cause of ABORTED is the signal's reason, whatever that is", async () => {
    const { layer, x } = smallLayer();
    for (const reason of [new Error("enough"), "enough", 0, null, () => expect.unreachable()]) {
      const y = await abortedForward(layer, x, reason);
      expect(await causeOf(y)).toBe(reason);
      expect(await causeOf(layer.forward(y as Tensor<"f32">))).toBe(reason);
      expect(() => y.dataSync()).toThrow(expect.objectContaining({ code: "ABORTED", cause: reason }));
    }
    const y = await abortedForward(layer, x, undefined);
    expect(await causeOf(y)).toMatchObject({ name: "AbortError" });
  });

  if (!name.startsWith("cuda"))
    test("map() of what was aborted is ABORTED, also while later work is unfinished", async () => {
      const { layer, x } = smallLayer();
      const y = await abortedForward(layer, x, undefined);
      const mapped = y.map();
      holdUp(firstSize);
      await expectRejection(mapped, "ABORTED", /aborted/);
      expect(() => y.mapSync()).toThrow(expect.objectContaining({ code: "ABORTED" }));
      y.write(new Float32Array(y.size).fill(2));
      expect((await y.map())[0]).toBe(2);
    });

  test("so it is where call sites are kept, and for a signal whose reason cannot be read", async () => {
    using other = openDevice(name, { callSites: true });
    using random = new RandomLayer(other, { config: exampleConfig, tokens: 7, dtype: "f32", seed: 1 });
    const reason = new Error("enough");
    expect(await causeOf(await abortedForward(random.layer, random.x as Tensor<"f32">, reason))).toBe(reason);
    const { layer, x } = smallLayer();
    for (let size = firstSize; ; size *= 2) {
      const controller = new AbortController();
      const { signal } = controller;
      Object.defineProperty(signal, "reason", {
        get: () => {
          throw reason;
        },
      });
      holdUp(size);
      const y = layer.forward(x, { signal });
      controller.abort();
      if (await succeeds(y)) continue;
      expect(await causeOf(y)).toBe(reason);
      break;
    }
  });

  test("reasons do not pile up: those of the latest 1024 signals are kept", async () => {
    const { layer, x } = smallLayer();
    const [first, second] = [new Error("first"), new Error("second")];
    const oldest = await abortedForward(layer, x, first);
    const later = await abortedForward(layer, x, second);
    for (let i = 0; i < 1023; i++) {
      const controller = new AbortController();
      layer.forward(x, { signal: controller.signal }).dispose();
      controller.abort();
    }
    await expectRejection(oldest.data(), "ABORTED", /aborted/);
    expect(await causeOf(oldest)).toBeUndefined();
    expect(await causeOf(later)).toBe(second);
  });

  test("router stats of an aborted forward say that they are lost, and others are not", async () => {
    const { layer, x } = smallLayer();
    const reason = new Error("enough");
    for (let size = firstSize; ; size *= 2) {
      using stats = new RouterStats(device(), { numExperts: 8 });
      const controller = new AbortController();
      holdUp(size);
      const want = ["logits", "routing"] as const;
      const { y, logits, routing } = layer.forward(x, { want, signal: controller.signal });
      stats.record(logits, routing);
      controller.abort(reason);
      if (await succeeds(y)) continue;
      const message = /^router stats: expected results of forwards that were done, .* record once y has been read/;
      await expectRejection(stats.read(), "ABORTED", message);
      expect(await stats.read().catch((error: Error) => error.cause)).toBe(reason);
      using others = new RouterStats(device(), { numExperts: 8 });
      const done = layer.forward(x, { want });
      others.record(done.logits, done.routing);
      expect(await others.read()).toMatchObject({ calls: 1, tokens: 64 });
      break;
    }
  });

  test("many forwards share one listener, and cancelled ones release their memory", async () => {
    const { layer, x } = smallLayer();
    const controller = new AbortController();
    let listeners = 0;
    const add = controller.signal.addEventListener.bind(controller.signal);
    controller.signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    for (let i = 0; i < 10; i++) layer.forward(x, { signal: controller.signal }).dispose();
    controller.abort();
    await device().synchronize();
    expect(listeners).toBe(1);
  });

  test("a signal that nothing waits for loses its listener, which would keep one of AbortSignal.any alive", async () => {
    const { layer, x } = smallLayer();
    const server = new AbortController();
    const signals: AbortSignal[] = [];
    const listening = () => signals.filter((signal) => getEventListeners(signal, "abort").length > 0);
    const request = () => {
      const signal = AbortSignal.any([new AbortController().signal, server.signal]);
      signals.push(signal);
      return layer.forward(x, { signal });
    };
    for (let i = 0; i < 20; i++) await request().data();
    expect(listening()).toEqual(signals.slice(-1));
    // Used again it is listened to again, for as long as its work waits.
    for (let size = firstSize; ; size *= 2) {
      const controller = new AbortController();
      const { signal } = controller;
      await layer.forward(x, { signal }).data();
      await request().data();
      expect(getEventListeners(signal, "abort")).toEqual([]);
      holdUp(size);
      const y = layer.forward(x, { signal });
      const others = [request(), request()];
      controller.abort("enough");
      if (await succeeds(y)) continue;
      expect(await causeOf(y)).toBe("enough");
      for (const other of others) expect(await succeeds(other)).toBe(true);
      break;
    }
  });

  test("a foreign signal from which no listener can be removed is listened to once", async () => {
    const { layer, x } = smallLayer();
    const controller = new AbortController();
    let listeners = 0;
    const foreign = {
      throwIfAborted: () => controller.signal.throwIfAborted(),
      addEventListener: (type: "abort", listener: () => void) => {
        listeners++;
        controller.signal.addEventListener(type, listener);
      },
      get reason() {
        return controller.signal.reason as unknown;
      },
    } as unknown as AbortSignal;
    for (let i = 0; i < 3; i++) {
      await layer.forward(x, { signal: foreign }).data();
      await layer.forward(x, { signal: new AbortController().signal }).data();
    }
    expect(listeners).toBe(1);
    for (let size = firstSize; !controller.signal.aborted; size *= 2) {
      holdUp(size);
      const y = layer.forward(x, { signal: foreign });
      controller.abort("enough");
      if (!(await succeeds(y))) expect(await causeOf(y)).toBe("enough");
    }
  });

  test("cancelling the first forward to save leaves the next one what it needs", async () => {
    for (let size = firstSize; ; size *= 2) {
      const { layer, x } = smallLayer();
      const controller = new AbortController();
      holdUp(size);
      const { y: aborted } = layer.forward(x, { save: true, signal: controller.signal });
      controller.abort();
      const { y, state } = layer.forward(x, { save: true });
      expect(await y.raw()).toEqual(await layer.forward(x).raw());
      expect((await layer.backward(state, x).dx.data()).every(Number.isFinite)).toBe(true);
      if (!(await succeeds(aborted))) break;
    }
  });

  test("a replay with weights that an aborted forward was to give is ABORTED, until the layer gets others", async () => {
    const { layer, x } = smallLayer();
    using captured = layer.capture(64);
    captured.x.write(await x.data());
    using lost = await abortedForward(layer, x, new Error("enough"));
    layer.setSelectionBias(lost.rows(0, 1).reshape([64]).rows(0, 8) as Tensor<"f32">);
    captured.replay();
    await expectRejection(layer.forward(x).data(), "ABORTED", /aborted/);
    await expectRejection(captured.y.data(), "ABORTED", /aborted/);
    layer.setSelectionBias(device().tensor([0, 0, 0, 9, 0, 0, 0, 9]));
    captured.replay();
    expect(await captured.y.raw()).toEqual(await layer.forward(x).raw());
  });

  /** A training step of a layer whose forward was aborted while it waited, up to the optimiser's own. */
  async function abortedStep() {
    for (let size = firstSize; ; size *= 2) {
      const { layer, x } = smallLayer();
      const parameters = layer.parameters();
      const optimizer = new AdamW(parameters, { learningRate: 0.01 });
      const controller = new AbortController();
      holdUp(size);
      const { logits, state } = layer.forward(x, { save: true, want: ["logits"], signal: controller.signal });
      controller.abort();
      // The first of several pieces of work: if it was cancelled, so were all.
      if (!(await succeeds(logits))) return { layer, x, parameters, optimizer, state };
    }
  }
  const valuesOf = async (parameters: Iterable<{ value: Tensor<"f32"> }>) =>
    await Promise.all([...parameters].map(async ({ value }) => await value.data()));

  test("a state of an aborted forward that is disposed of leaves the weights to the next step", async () => {
    const { layer, x, parameters, optimizer, state } = await abortedStep();
    const before = await valuesOf(parameters);
    state.dispose();
    expect(await valuesOf(parameters)).toEqual(before);
    layer.backward(layer.forward(x, { save: true }).state, x, { gradients: parameters.gradients });
    optimizer.step();
    for (const [index, values] of (await valuesOf(parameters)).entries()) {
      expect(values.every(Number.isFinite)).toBe(true);
      expect(values).not.toEqual(before[index]);
    }
  });

  test("a step of an aborted forward's gradients leaves no weights, until they are written again", async () => {
    const { layer, x, parameters, optimizer, state } = await abortedStep();
    const before = await valuesOf(parameters);
    const kept = optimizer.state();
    const names = Object.keys(kept.tensors);
    const keptBefore = await Promise.all(Object.values(kept.tensors).map(async (tensor) => await tensor.data()));
    layer.backward(state, x, { gradients: parameters.gradients });
    // So far only the gradients are lost.
    expect(await valuesOf(parameters)).toEqual(before);
    for (const { gradient } of parameters) await expectRejection((gradient as Tensor).data(), "ABORTED", /aborted/);
    optimizer.step();
    for (const { value } of parameters) await expectRejection(value.data(), "ABORTED", /aborted/);
    await expectRejection(layer.forward(x).data(), "ABORTED", /aborted/);
    for (const [index, { value }] of [...parameters].entries()) value.write(before[index] as Float32Array);
    parameters.changed();
    const tensors = Object.fromEntries(names.map((name, index) => [name, keptBefore[index] as Float32Array]));
    optimizer.load({ steps: kept.steps, tensors });
    expect(await valuesOf(parameters)).toEqual(before);
    layer.backward(layer.forward(x, { save: true }).state, x, { gradients: parameters.gradients });
    optimizer.step();
    expect((await layer.forward(x).data()).every(Number.isFinite)).toBe(true);
  });

  test("one signal for many devices is listened to once, and cancels the work of each", async () => {
    const controller = new AbortController();
    const { signal } = controller;
    let listeners = 0;
    const add = signal.addEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    for (let i = 0; i < 12; i++) {
      using other = openDevice(name);
      using random = new RandomLayer(other, { config: exampleConfig, tokens: 3, dtype: "f32", seed: 1 });
      random.layer.forward(random.x, { signal }).dataSync();
    }
    const { layer, x } = smallLayer();
    layer.forward(x, { signal }).dispose();
    controller.abort();
    await device().synchronize();
    expect(listeners).toBe(1);
  });
});

test("a device that is closed refuses a signal as it refuses work", async () => {
  const device = openDevice("cpu");
  using random = new RandomLayer(device, { config: exampleConfig, tokens: 3, dtype: "f32", seed: 1 });
  const { signal } = new AbortController();
  await device.close();
  expectError(() => random.layer.forward(random.x, { signal }), "DISPOSED", /./);
});
