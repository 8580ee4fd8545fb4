import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { SafetensorsFile, writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import {
  AdamW,
  type Device,
  MoeError,
  type OptimizerState,
  openDevice,
  type Parameter,
  random,
  SGD,
  squaredNorm,
  type Tensor,
} from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { exampleConfig, RandomLayer } from "../support/random_layer.js";

/** A parameter whose gradient can be replaced. */
class TestParameter implements Parameter {
  readonly name: string;
  readonly value: Tensor<"f32">;
  gradient: Tensor<"f32"> | undefined;

  constructor(device: Device, name: string, values: ArrayLike<number>, gradient?: ArrayLike<number>) {
    const tensor = (source: ArrayLike<number>) => device.tensor(Float32Array.from(source), [source.length]);
    this.name = name;
    this.value = tensor(values);
    this.gradient = gradient && tensor(gradient);
  }
}

function parameterValues(parameter: Parameter | undefined): Float32Array {
  return (parameter as Parameter).value.dataSync() as Float32Array;
}

describe.each(deviceNames)("optimisers on %s", (name) => {
  const device = openForTests(name);

  test("AdamW is the formula of its paper", () => {
    const parameter = new TestParameter(device(), "p", [1, -2, 0.5], [0.1, -0.2, 0]);
    using optimizer = new AdamW([parameter], { learningRate: 0.1, weightDecay: 0.5 });
    // After one step m / (1 - β₁) = g and v / (1 - β₂) = g², so the step is the sign of the gradient.
    optimizer.step();
    const first = [1 * 0.95 - 0.1, -2 * 0.95 + 0.1, 0.5 * 0.95];
    expect(relativeError(parameter.value.dataSync(), first)).toBeLessThan(1e-6);
    parameter.gradient?.write([0, 0.2, 0.3]);
    optimizer.step();
    const second = [
      (first[0] as number) * 0.95 -
        (0.1 * ((0.9 * 0.1 * 0.1) / 0.19)) / (Math.sqrt((0.999 * 0.001 * 0.01) / 0.001999) + 1e-8),
      (first[1] as number) * 0.95 -
        (0.1 * ((0.9 * 0.1 * -0.2 + 0.1 * 0.2) / 0.19)) / (Math.sqrt((0.001 * 0.04 * 1.999) / 0.001999) + 1e-8),
      (first[2] as number) * 0.95 - (0.1 * ((0.1 * 0.3) / 0.19)) / (Math.sqrt((0.001 * 0.09) / 0.001999) + 1e-8),
    ];
    expect(relativeError(parameter.value.dataSync(), second)).toBeLessThan(1e-5);
    expect(optimizer.steps).toBe(2);
  });

  test("AdamW counts a parameter's own steps, also past a break", () => {
    // With like gradients every step of a parameter is η · the sign of its gradient.
    const make = () => [new TestParameter(device(), "always", [1], [0.5]), new TestParameter(device(), "late", [1])];
    const options = { learningRate: 0.1, weightDecay: 0 };
    const run = (optimizer: AdamW, late: TestParameter, steps: number[]) => {
      for (const step of steps) {
        if (step === 3) late.gradient = device().tensor([-0.25]);
        if (step === 5) late.gradient = undefined;
        if (step === 6) late.gradient = device().tensor([-0.25]);
        optimizer.step();
      }
    };
    const [whole, broken] = [make(), make()];
    using first = new AdamW(whole, options);
    run(first, whole[1] as TestParameter, [1, 2, 3, 4, 5, 6]);
    expect(relativeError(parameterValues(whole[0]), [1 - 0.6])).toBeLessThan(1e-6);
    expect(relativeError(parameterValues(whole[1]), [1 + 0.3])).toBeLessThan(1e-6);
    using second = new AdamW(broken, options);
    run(second, broken[1] as TestParameter, [1, 2, 3]);
    const { steps, tensors } = second.state();
    expect(tensors["late.steps"]?.dataSync()).toEqual(Float32Array.of(1));
    using third = new AdamW(broken, options);
    third.load({ steps, tensors });
    run(third, broken[1] as TestParameter, [4, 5, 6]);
    expect(broken.map(({ value }) => value.rawSync())).toEqual(whole.map(({ value }) => value.rawSync()));
    // Without counts, every parameter has had all the steps.
    const { "always.steps": _, "late.steps": __, ...uncounted } = third.state().tensors;
    using fourth = new AdamW(broken, options);
    fourth.load({ steps: 6, tensors: uncounted });
    expect(fourth.state().tensors["late.steps"]?.dataSync()).toEqual(Float32Array.of(6));
    expectError(
      () => fourth.load({ steps: 6, tensors: { ...uncounted, "late.steps": Float32Array.of(0.5) } }),
      "INVALID_ARGUMENT",
      /state\.tensors\.late\.steps: expected an integer/,
    );
  });

  test("SGD is the formula that PyTorch has", () => {
    const plain = new TestParameter(device(), "p", [1, 2], [0.5, -1]);
    using sgd = new SGD([plain], { learningRate: 0.1, weightDecay: 0.2 });
    sgd.step();
    expect(relativeError(plain.value.dataSync(), [1 - 0.1 * 0.7, 2 + 0.1 * 0.6])).toBeLessThan(1e-6);
    expect(sgd.byteLength).toBe(0);
    const heavy = new TestParameter(device(), "p", [1], [1]);
    using nesterov = new SGD([heavy], { learningRate: 1, momentum: 0.5, nesterov: true });
    nesterov.step();
    nesterov.step();
    // v = 1, then 1.5; steps 1 + 0.5 and 1 + 0.75.
    expect(relativeError(heavy.value.dataSync(), [1 - 1.5 - 1.75])).toBeLessThan(1e-6);
  });

  test("gradients are clipped by the norm of all of them, which is returned", () => {
    const parameters = [new TestParameter(device(), "a", [0], [3]), new TestParameter(device(), "b", [0, 0], [0, 4])];
    using optimizer = new SGD(parameters, { learningRate: 1, maxNorm: 1 });
    expect(optimizer.step()?.dataSync()).toEqual(Float32Array.of(25));
    expect(relativeError(parameterValues(parameters[1]), [0, -0.8])).toBeLessThan(1e-6);
    using loose = new SGD(parameters, { learningRate: 1, maxNorm: 6 });
    loose.step();
    expect(relativeError(parameterValues(parameters[0]), [-0.6 - 3])).toBeLessThan(1e-6);
    using none = new SGD(parameters, { learningRate: 1 });
    expect(none.step()).toBeUndefined();
    const steep = new TestParameter(device(), "c", [0], [3]);
    using measured = new SGD([steep], { learningRate: 1, maxNorm: Number.POSITIVE_INFINITY });
    expect(measured.step()?.dataSync()).toEqual(Float32Array.of(9));
    expect(parameterValues(steep)).toEqual(Float32Array.of(-3));
    // It clips nothing, not even if the norm's square has no place in float32.
    const most = 2 ** 70;
    const steepest = new TestParameter(device(), "d", [0], [most]);
    using only = new SGD([steepest], { learningRate: 1, maxNorm: Number.POSITIVE_INFINITY });
    expect(only.step()?.dataSync()).toEqual(Float32Array.of(Number.POSITIVE_INFINITY));
    expect(parameterValues(steepest)).toEqual(Float32Array.of(-most));
  });

  test("a parameter may have its own weight decay and learning rate, under one norm", () => {
    const parameters = ["a", "b", "c"].map((each) => new TestParameter(device(), each, [2], [2]));
    const [plain, kept, slow] = parameters as [TestParameter, TestParameter, TestParameter];
    const given = [plain, { ...kept, weightDecay: 0 }, { ...slow, weightDecay: 0.25, learningRateFactor: 0.5 }];
    const run = (optimizer: AdamW | SGD) => {
      const norm = optimizer.step()?.dataSync();
      expect(norm).toEqual(Float32Array.of(12));
      optimizer.dispose();
      const values = parameters.map((each) => parameterValues(each)[0] as number);
      for (const { value } of parameters) value.write([2]);
      return values;
    };
    const g = 1 / Math.sqrt(3); // each gradient after clipping
    const sgd = run(new SGD(given, { learningRate: 0.1, weightDecay: 0.5, maxNorm: 1 }));
    expect(relativeError(sgd, [2 - 0.1 * (g + 1), 2 - 0.1 * g, 2 - 0.05 * (g + 0.5)])).toBeLessThan(1e-6);
    // The first step of AdamW is the sign of the gradient.
    const adam = run(new AdamW(given, { learningRate: 0.1, weightDecay: 0.5, maxNorm: 1 }));
    expect(relativeError(adam, [2 * 0.95 - 0.1, 2 - 0.1, 2 * (1 - 0.05 * 0.25) - 0.05])).toBeLessThan(1e-6);
    for (const wrong of [{ weightDecay: -1 }, { learningRateFactor: Number.NaN }]) {
      const [name] = Object.keys(wrong);
      const expected = new RegExp(`^parameters\\[0\\]\\.${name}: expected a finite number >= 0`);
      expectError(() => new SGD([{ ...plain, ...wrong }], { learningRate: 1 }), "INVALID_ARGUMENT", expected);
    }
    const called = () => new SGD([{ ...plain, changed: 1 as never }], { learningRate: 1 });
    expectError(called, "INVALID_ARGUMENT", /^parameters\[0\]\.changed: expected a function, got 1$/);
  });

  test("NaN in a gradient makes NaN of its own parameter, or of all if the norm is limited", () => {
    const parameters = [
      new TestParameter(device(), "a", [1], [Number.NaN]),
      new TestParameter(device(), "b", [1], [1]),
    ];
    using free = new SGD(parameters, { learningRate: 0.5 });
    free.step();
    expect(parameters.map(({ value }) => value.dataSync()[0])).toEqual([Number.NaN, 0.5]);
    using limited = new SGD(parameters, { learningRate: 0.5, maxNorm: 1 });
    expect(limited.step()?.dataSync()).toEqual(Float32Array.of(Number.NaN));
    expect(parameterValues(parameters[1])[0]).toBe(Number.NaN);
  });

  test("the copy is the rounded parameter, and a changed one is called once for several", () => {
    const values = new Random(1).normals(3000);
    const copy = device().empty([3000], "bf16");
    const calls: string[] = [];
    const changed = () => calls.push("changed");
    const parameters = ["a", "b"].map((name) => ({
      name,
      value: device().tensor(values, [3000]),
      gradient: device().tensor(values, [3000]),
      ...(name === "a" && { copy }),
      changed,
    }));
    using optimizer = new AdamW(parameters, { learningRate: 0.1 });
    optimizer.step();
    expect(copy.rawSync()).toEqual(device().tensor(parameterValues(parameters[0]), [3000], "bf16").rawSync());
    expect(calls).toEqual(["changed"]);
  });

  test("goes on from a state with the same bits, also through a file", async () => {
    const values = new Random(2).normals(500);
    const make = () => new TestParameter(device(), "p", values, values);
    const [whole, broken] = [make(), make()];
    using first = new AdamW([whole], { learningRate: 0.1 });
    using second = new AdamW([broken], { learningRate: 0.1 });
    for (const optimizer of [first, first, first, second, second]) optimizer.step();
    const directory = mkdtempSync(join(tmpdir(), "optimizer-"));
    try {
      const file = join(directory, "state.safetensors");
      const { steps, tensors } = second.state();
      const data = Object.entries(tensors).map(([name, tensor]) => {
        return [name, { dtype: "F32", shape: tensor.shape, data: tensor.dataSync() }] as const;
      });
      await writeSafetensors(file, Object.fromEntries(data), { metadata: { steps: String(steps) } });
      await using opened = await SafetensorsFile.open(file);
      const read: Record<string, Float32Array> = {};
      for (const name of opened.tensors.keys()) read[name] = (await opened.read(name)).data as Float32Array;
      using third = new AdamW([broken], { learningRate: 0.1 });
      third.load({ steps: Number(opened.metadata.steps), tensors: read });
      third.step();
      expect(broken.value.rawSync()).toEqual(whole.value.rawSync());
      expect(third.steps).toBe(3);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("refuses what it cannot use", () => {
    const parameter = new TestParameter(device(), "p", [1, 2]);
    const learningRate = 0.1;
    expectError(() => new AdamW([], { learningRate }), "INVALID_ARGUMENT", /parameters: expected at least one/);
    expectError(
      () => new AdamW([parameter, parameter], { learningRate }),
      "INVALID_ARGUMENT",
      /^parameters\[1\]\.name: expected a name that no other parameter has, got "p" twice; .* { \.\.\.parameter, name: /,
    );
    const unnamed = { value: parameter.value, gradient: undefined } as never;
    expectError(
      () => new AdamW([unnamed], { learningRate }),
      "INVALID_ARGUMENT",
      /\[0\]\.name: expected a string, got und/,
    );
    expectError(() => new AdamW([parameter], { learningRate: -1 }), "INVALID_ARGUMENT", /learningRate/);
    expectError(
      () => new AdamW([parameter], { learningRate, beta1: 1 }),
      "INVALID_ARGUMENT",
      /beta1: expected a number from 0/,
    );
    expectError(
      () => new AdamW([parameter], { learningRate, epsilon: 1e-46 }),
      "INVALID_ARGUMENT",
      /epsilon: expected a finite number > 0 in float32/,
    );
    expectError(
      () => new SGD([parameter], { learningRate, nesterov: true }),
      "INVALID_ARGUMENT",
      /nesterov requires momentum/,
    );
    using optimizer = new AdamW([parameter], { learningRate });
    expectError(
      () => optimizer.step(),
      "INVALID_ARGUMENT",
      /step: expected a parameter with a gradient; call backward/,
    );
    parameter.gradient = device().zeros([3], "f32");
    expectError(() => optimizer.step(), "SHAPE_MISMATCH", /the gradient of p: expected shape \[2\]/);
    using other = openDevice(name);
    parameter.gradient = other.zeros([2], "f32");
    expectError(() => optimizer.step(), "DEVICE_MISMATCH", /the gradient of p/);
    parameter.gradient = device().zeros([2], "f32");
    optimizer.learningRate = Number.NaN;
    expectError(() => optimizer.step(), "INVALID_ARGUMENT", /learningRate: expected a finite number >= 0/);
    expect(optimizer.steps).toBe(0);
    const state: OptimizerState = { steps: 1, tensors: {} };
    expectError(
      () => optimizer.load(state),
      "INVALID_ARGUMENT",
      /state\.tensors\.p\.mean: expected a Tensor or a Float32Array/,
    );
    const short = { steps: 1, tensors: { "p.mean": new Float32Array(1), "p.square": new Float32Array(2) } };
    expectError(() => optimizer.load(short), "SHAPE_MISMATCH", /p\.mean: expected 2 elements/);
    expectError(() => squaredNorm([]), "INVALID_ARGUMENT", /tensors: expected at least one/);
  });

  test("a state for which there is no memory is not loaded in part", () => {
    const parameters = ["a", "b"].map((each) => new TestParameter(device(), each, [1], [0.5]));
    const options = { learningRate: 0.1, weightDecay: 0 };
    using optimizer = new AdamW(parameters, options);
    optimizer.step();
    const values = () => {
      const { steps, tensors } = optimizer.state();
      return { steps, tensors: Object.entries(tensors).map(([tensor, kept]) => [tensor, kept.dataSync()]) };
    };
    const before = values();
    using other = new AdamW(parameters, options);
    other.step();
    other.step();
    const state = other.state();
    const { backend } = device();
    const grant = backend.empty;
    for (let granted = 0; granted < 4; granted++) {
      let left = granted;
      const refusal = vi.spyOn(backend, "empty").mockImplementation((...description) => {
        if (left-- === 0) throw new MoeError("OUT_OF_MEMORY", "refused");
        return grant.apply(backend, description);
      });
      expectError(() => optimizer.load(state), "OUT_OF_MEMORY", /refused/);
      refusal.mockRestore();
      expect(values()).toEqual(before);
    }
    optimizer.load(state);
    expect(values().steps).toBe(2);
    expect(optimizer.state().tensors["b.square"]?.dataSync()).toEqual(state.tensors["b.square"]?.dataSync());
    optimizer.dispose();
    expectError(() => optimizer.load(state), "DISPOSED", /used after dispose/);
  });

  test("a step with a parameter that was disposed of changes no other", () => {
    const parameters = ["a", "b"].map((each) => new TestParameter(device(), each, [1], [0.5]));
    using optimizer = new SGD(parameters, { learningRate: 1 });
    parameters[1]?.value.dispose();
    expectError(() => optimizer.step(), "DISPOSED", /used after dispose/);
    expect(optimizer.steps).toBe(0);
    expect(parameterValues(parameters[0])).toEqual(Float32Array.of(1));
  });

  test("a layer learns what another layer computes, and goes on the same after a break", () => {
    const config = { ...exampleConfig, sharedExpert: { intermediateSize: 20, gate: "sigmoid" as const } };
    using teacher = new RandomLayer(device(), { config, tokens: 60, dtype: "f32", seed: 3, biases: true });
    const target = teacher.layer.forward(teacher.x);
    const student = () => new RandomLayer(device(), { config, tokens: 60, dtype: "f32", seed: 4, biases: true });
    const x = teacher.x as Tensor<"f32">;
    const run = (steps: number, { layer }: RandomLayer, state?: OptimizerState) => {
      const parameters = layer.parameters();
      const optimizer = new AdamW(parameters, { learningRate: 0.01 });
      if (state) optimizer.load(state);
      const losses: number[] = [];
      for (let step = 0; step < steps; step++) {
        const { y, state: saved } = layer.forward(x, { save: true });
        const difference = Float32Array.from(y.dataSync(), (value, i) => value - (target.dataSync()[i] as number));
        losses.push(difference.reduce((sum, value) => sum + value * value, 0) / difference.length);
        const dy = device().tensor(
          difference.map((value) => value / 60),
          y.shape,
          "f32",
        );
        layer.backward(saved, dy, { gradients: parameters.gradients });
        optimizer.step();
      }
      return { losses, optimizer, layer, y: layer.forward(x).rawSync() };
    };
    using once = student();
    const whole = run(12, once);
    expect(whole.losses.at(-1)).toBeLessThan(0.6 * (whole.losses[0] as number));
    using twice = student();
    const first = run(7, twice);
    const second = run(5, twice, first.optimizer.state());
    expect([...first.losses, ...second.losses]).toEqual(whole.losses);
    expect(second.y).toEqual(whole.y);
  });
});

test("steps have the same bits with any number of threads", () => {
  const values = new Random(5).normals(100_001);
  const bits = [1, 2, 3].map((threads) => {
    const device = openDevice("cpu", { threads });
    const parameter = new TestParameter(device, "p", values, values);
    const optimizer = new AdamW([parameter], { learningRate: 0.1, maxNorm: 1 });
    const norm = optimizer.step()?.rawSync();
    const result = [parameter.value.rawSync(), norm];
    device.dispose();
    return result;
  });
  expect(bits[1]).toEqual(bits[0]);
  expect(bits[2]).toEqual(bits[0]);
});

test("a step has the learning rate that was checked, whatever a gradient's getter does", () => {
  using device = openDevice("cpu");
  const parameter: Parameter = {
    name: "p",
    value: device.tensor(Float32Array.of(2)),
    get gradient() {
      optimizer.learningRate = Number.NaN;
      return device.tensor(Float32Array.of(1));
    },
  };
  using optimizer = new SGD([parameter], { learningRate: 0.5 });
  optimizer.step();
  expect(parameterValues(parameter)).toEqual(Float32Array.of(1.5));
  expectError(() => optimizer.step(), "INVALID_ARGUMENT", /learningRate: .*got NaN/);
});

test("a step before any backward of a layer is refused", () => {
  using device = openDevice("cpu");
  using made = new RandomLayer(device, { config: exampleConfig, tokens: 8, dtype: "f32", seed: 6 });
  using parameters = made.layer.parameters();
  // As programs name the parameters of several layers.
  const named = Array.from(parameters, (parameter) => ({ ...parameter, name: `first.${parameter.name}` }));
  using optimizer = new AdamW(named, { learningRate: 1e-3 });
  const refused = () =>
    expectError(() => optimizer.step(), "INVALID_ARGUMENT", /a parameter with a gradient; call backward first/);
  refused();
  const { state } = made.layer.forward(made.x, { save: true });
  expectError(() => made.layer.backward(state, made.x, { gradients: made as never }), "INVALID_ARGUMENT", /gradients/);
  refused();
  made.layer.backward(state, made.x, { gradients: parameters.gradients });
  optimizer.step();
  expect(optimizer.steps).toBe(1);
  // Gradients may be a program's own, too.
  using others = made.layer.parameters();
  using own = new AdamW(others, { learningRate: 1e-3 });
  const { router } = others.gradients;
  router?.write(new Float32Array(router.size).fill(1));
  own.step();
  expect(own.steps).toBe(1);
});

test.each<[string, (gradient: Tensor<"f32">, device: Device) => unknown]>([
  ["a view", (gradient) => gradient.reshape([gradient.size]).write(new Float32Array(gradient.size))],
  ["an array over its memory", (gradient) => gradient.map().then((values) => values.fill(1))],
  [
    "another library that has its address",
    (gradient, device) => {
      const theirs = device.fromDLPack(gradient.toDLPack());
      theirs.write(new Float32Array(theirs.size).fill(1));
    },
  ],
  ["random()", (out, device) => random(device, out.shape, { seed: 1, distribution: "normal", out })],
])("a gradient that a program writes through %s counts", async (_, write) => {
  using device = openDevice("cpu");
  using made = new RandomLayer(device, { config: exampleConfig, tokens: 8, dtype: "f32", seed: 6 });
  using parameters = made.layer.parameters();
  using optimizer = new SGD(parameters, { learningRate: 1e-3 });
  const { router, experts } = parameters.gradients;
  await write(router as Tensor<"f32">, device);
  optimizer.step();
  expect(optimizer.steps).toBe(1);
  // An expert's gradients are views of what the optimiser takes.
  const before = parameters.weights.experts?.[1]?.down.dataSync();
  const down = experts?.[1]?.down as Tensor<"f32">;
  down.write(new Float32Array(down.size).fill(1));
  optimizer.step();
  expect(parameters.weights.experts?.[1]?.down.dataSync()).toEqual(before?.map((value) => value - Math.fround(1e-3)));
});

test("what state() gives may be disposed of", () => {
  using device = openDevice("cpu");
  const parameter = new TestParameter(device, "p", Float32Array.of(1, 2), Float32Array.of(3, 4));
  using optimizer = new AdamW([parameter], { learningRate: 0.1 });
  optimizer.step();
  for (const tensor of Object.values(optimizer.state().tensors)) (tensor as Tensor).dispose();
  optimizer.step();
  expect(optimizer.steps).toBe(2);
});

test("a layer of bfloat16 keeps its weights in float32 for training", () => {
  using device = openDevice("cpu");
  using made = new RandomLayer(device, { config: exampleConfig, tokens: 8, dtype: "bf16", seed: 6 });
  const parameters = made.layer.parameters();
  const [first] = parameters;
  expect(first?.value.dtype).toBe("f32");
  const before = made.layer.forward(made.x).rawSync();
  parameters.changed();
  // What was copied and packed again is what was there.
  expect(made.layer.forward(made.x).rawSync()).toEqual(before);
  const optimizer = new SGD(parameters, { learningRate: 1e-6 });
  const { state } = made.layer.forward(made.x, { save: true });
  made.layer.backward(state, made.x, { gradients: parameters.gradients });
  const weights = parameters.weights.experts?.[0]?.up.dataSync();
  optimizer.step();
  // Far below what bfloat16 resolves.
  expect(parameters.weights.experts?.[0]?.up.dataSync()).not.toEqual(weights);
});
