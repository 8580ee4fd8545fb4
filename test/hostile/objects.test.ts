import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { serializeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import * as api from "../../lib/index.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Objects that say one thing when they are checked and another when they are used.

// biome-ignore lint/suspicious/noExplicitAny: what is passed here is of no type that the functions take
const anything = (value: unknown) => value as any;

/** A list that says what `answer` says for the nth time that `name` is read. */
function lyingList(values: number[], name: string, answer: (read: number) => unknown): number[] {
  let reads = 0;
  return new Proxy(values, {
    get: (target, property) => (property === name ? answer(reads++) : Reflect.get(target, property)),
  });
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** Objects that are no options, tensors or arrays, though some inherit from one or throw when they are looked at. */
const impostors = (device: api.Device): readonly unknown[] => [
  null,
  Symbol("s"),
  2n ** 4096n,
  Object.create(device.zeros([2, 2], "f32")),
  new Proxy(device.zeros([2, 2], "f32"), {}),
  Object.create(api.Tensor.prototype),
  Object.assign(() => {}, { dtype: "f32", shape: [2, 2] }),
  { shape: [2, 2], dtype: "f32", device, handle: {} },
  {
    get constructor() {
      throw new Error("looked at");
    },
  },
  { constructor: { name: Symbol("not a name") } },
  revoked(),
];

describe.each(deviceNames)("%s", (name) => {
  const device = openForTests(name);

  test("what is no tensor is refused by name, whatever it inherits from", () => {
    for (const impostor of impostors(device())) {
      expectError(() => api.zLoss(anything(impostor)), "INVALID_ARGUMENT", /^logits: expected a Tensor, got /);
      const ids = device().zeros([2, 1], "i32");
      const options = { numExperts: 2, weights: anything(impostor) };
      expectError(() => api.expertTotals(ids, options), "INVALID_ARGUMENT", /^weights: expected a Tensor, got /);
    }
  });

  test("what are no options are refused by name", () => {
    const logits = device().zeros([2, 2], "f32");
    for (const options of [null, 3, "topK", [1], new Float32Array(1), logits, revoked()]) {
      expectError(
        () => api.gating(logits, anything(options)),
        "INVALID_ARGUMENT",
        /^options: expected an object such as/,
      );
    }
  });

  test("a tensor has no properties of its own and no subclass", () => {
    const x = device().zeros([2, 2], "f32");
    for (const property of ["shape", "dtype", "device", "handle", "size"]) {
      expect(() => Object.defineProperty(x, property, { value: [64, 64] })).toThrow(TypeError);
      expect(() => Reflect.set(x, property, [64, 64])).not.toThrow();
    }
    expect(x.shape).toEqual([2, 2]);
    expect(() => (anything(x.shape)[0] = 64)).toThrow(TypeError);
    class Larger extends api.Tensor {
      override get shape() {
        return [64, 64];
      }
    }
    expectError(
      () => new Larger(device(), "f32", [2, 2], x.handle),
      "INVALID_ARGUMENT",
      /^Tensor cannot be subclassed; keep one in a field/,
    );
  });

  test("constructors that users cannot call say what to call instead", () => {
    const construct = (made: unknown, ...given: unknown[]) => Reflect.construct(made as new () => object, given);
    const expected = / has no public constructor; use /;
    for (const made of [api.Tensor, api.Device, api.MoeLayer]) {
      expectError(() => construct(made), "INVALID_ARGUMENT", expected);
      expectError(() => construct(made, "cpu"), "INVALID_ARGUMENT", expected);
    }
    expectError(() => construct(api.Tensor, device(), [1, 2]), "INVALID_ARGUMENT", /use device\.tensor/);
    expectError(() => construct(api.MoeLayer, { hiddenSize: 2 }), "INVALID_ARGUMENT", /use MoeLayer\.create/);
  });

  test("packed experts, layers and captures keep what they are", async () => {
    const weight = device().zeros([2, 4, 3], "f32");
    const packed = api.packExperts(weight);
    const layer = api.MoeLayer.create({
      device: device(),
      hiddenSize: 3,
      intermediateSize: 2,
      numExperts: 2,
      topK: 1,
      router: device().zeros([2, 3], "f32"),
      experts: {
        gate: device().zeros([2, 2, 3], "f32"),
        up: device().zeros([2, 2, 3], "f32"),
        down: device().zeros([2, 3, 2], "f32"),
      },
    });
    const captured = layer.capture(2);
    const stats = new api.RouterStats(device(), { numExperts: 2 });
    for (const property of ["shape", "activation", "handle"]) {
      expect(() => Object.defineProperty(packed, property, { value: [9, 9, 9] })).toThrow(TypeError);
    }
    const properties: readonly (readonly [object, string])[] = [
      [packed, "shape"],
      [layer, "description"],
      [layer, "device"],
      [captured, "x"],
      [captured, "y"],
      [stats, "numExperts"],
      [device(), "kind"],
    ];
    for (const [object, property] of properties) expect(Reflect.set(object, property, [9, 9, 9])).toBe(false);
    // What a layer computes with is its own, also where a property hides it.
    Object.defineProperty(layer, "description", { value: { ...layer.description, hiddenSize: 4096 } });
    const hidden = layer.capture(2);
    expect(hidden.x.shape).toEqual([2, 3]);
    hidden.x.write(new Float32Array(6));
    hidden.replay();
    expect(await hidden.y.data()).toEqual(new Float32Array(6));
    hidden.dispose();
    const description = Reflect.get(api.MoeLayer.prototype, "description", layer);
    expect(Reflect.set(description, "topK", 99)).toBe(false);
    expect(Reflect.set(description.formats, "up", "f16")).toBe(false);
    for (const object of [packed, captured, layer, stats]) object.dispose();
  });

  test("a shape is read once", async () => {
    const answers = [
      lyingList([2, 2], "0", (read) => (read === 0 ? 2 : 2 ** 20)),
      lyingList([2, 2], "length", (read) => (read === 0 ? 2 : 4)),
    ];
    for (const shape of answers) {
      const tensor = device().zeros(shape, "f32");
      expect(tensor.shape).toEqual([2, 2]);
      expect(await tensor.data()).toEqual(new Float32Array(4));
      shape[1] = 2 ** 20;
      expect(tensor.reshape([4]).shape).toEqual([4]);
      expect(await tensor.data()).toHaveLength(4);
    }
    for (const length of [2 ** 40, -1, 1.5, "2", Symbol("2"), {}]) {
      const shape = lyingList([2, 2], "length", () => length);
      expectError(() => device().zeros(shape, "f32"), "INVALID_ARGUMENT", /^shape: expected at most 4 integers >= 0/);
    }
    expectError(() => device().zeros(anything(revoked()), "f32"), "INVALID_ARGUMENT", /^shape: expected at most 4/);
  });

  test("a typed array is what its memory is, not what its properties say", async () => {
    const short = Object.defineProperty(new Float32Array(2), "length", { value: 4 });
    expectError(() => device().tensor(short, [4]), "SHAPE_MISMATCH", /expected 4 values for shape \[4\], got 2/);
    const bytes = Object.setPrototypeOf(new Uint8Array([1, 2, 3, 4]), Float32Array.prototype) as Float32Array;
    expect(await device().tensor(bytes, [4]).data()).toEqual(Uint8Array.of(1, 2, 3, 4));
    const moved = Object.defineProperty(new Float32Array([1, 2]), "buffer", { value: new ArrayBuffer(2 ** 20) });
    expect(await device().tensor(moved).data()).toEqual(Float32Array.of(1, 2));
    class Iterated extends Float64Array {
      override *[Symbol.iterator](): ArrayIterator<number> {
        for (;;) yield 7;
      }
    }
    expect(await device().tensor(Iterated.of(1, 2)).data()).toEqual(Float32Array.of(1, 2));
    expect(await device().tensor(Iterated.of(1, 2), [2], "bf16").data()).toEqual(Float32Array.of(1, 2));
    const resizable = anything(Reflect.construct(ArrayBuffer, [8, { maxByteLength: 16 }]));
    Object.defineProperty(resizable, "resizable", { value: false });
    expectError(() => device().tensor(new Float32Array(resizable)), "INVALID_ARGUMENT", /a buffer of fixed length/);
    const transferred = new Float32Array(2);
    structuredClone(transferred.buffer, { transfer: [transferred.buffer] });
    expectError(() => device().tensor(transferred, [0]), "INVALID_ARGUMENT", /whose buffer was transferred/);
  });

  test("arrays of another realm are arrays", async () => {
    const foreign = runInNewContext("new Float32Array([1, 2])") as Float32Array;
    expect(await device().tensor(foreign).data()).toEqual(Float32Array.of(1, 2));
    const nested = runInNewContext("[[1], [2]]") as number[][];
    expect(device().tensor(nested, runInNewContext("[2]")).shape).toEqual([2]);
  });

  test("arrays may hold themselves, have holes and lie", () => {
    const own: unknown[] = [];
    own.push(own);
    expectError(() => device().tensor(anything(own)), "INVALID_ARGUMENT", /^data: expected at most 4 levels of arrays/);
    const endless: object = new Proxy([], { get: (_, name) => (name === "length" ? 1 : endless) });
    expectError(() => device().tensor(anything(endless)), "INVALID_ARGUMENT", /^data: expected at most 4 levels/);
    expectError(() => device().tensor(new Array(3e7)), "INVALID_ARGUMENT", /^data: .*got undefined/);
    const growing = lyingList([1, 2], "length", (read) => 2 + read);
    expectError(() => device().tensor(growing), "INVALID_ARGUMENT", /^data: expected arrays nested evenly as \[2\]/);
    const huge = lyingList([1, 2], "length", () => 2 ** 52);
    expectError(() => device().tensor(huge), "INVALID_ARGUMENT", /^data: expected at most 67108864 values in/);
    const endlessRows = new Proxy([[]], { get: (rows, name) => (name === "length" ? 2 ** 40 : rows[0]) });
    expectError(() => device().tensor(endlessRows), "INVALID_ARGUMENT", /^data: .* in 16777216 arrays, got \[\d+, 0\]/);
    const [sparse] = [[1]];
    sparse.length = 3;
    expectError(() => device().tensor(sparse), "INVALID_ARGUMENT", /^data: .*got undefined/);
  });

  test("memory that changes while it is read gives some of its values", async () => {
    const shared = new Float32Array(new SharedArrayBuffer(16));
    const other = new Float32Array(shared.buffer);
    const tensor = device().tensor(shared, [4], "bf16");
    other.fill(1);
    expect(await tensor.data()).toEqual(new Float32Array(4));
  });

  test("weights are checked before anything is made of them", () => {
    const good = {
      device: device(),
      hiddenSize: 3,
      intermediateSize: 2,
      numExperts: 2,
      topK: 1,
      activation: "relu" as const,
      router: device().zeros([2, 3], "f32"),
      experts: { up: device().zeros([2, 2, 3], "f32"), down: device().zeros([2, 3, 2], "f32") },
    };
    const evil = {
      get dtype() {
        throw new Error("read");
      },
    };
    for (const tensor of [evil, { dtype: {} }, device().zeros([2, 2, 3], "i32")]) {
      const experts = { ...good.experts, up: { tensor } };
      expectError(
        () => api.MoeLayer.create(anything({ ...good, dtype: { router: "f32" }, experts })),
        tensor instanceof api.Tensor ? "UNSUPPORTED_DTYPE" : "INVALID_ARGUMENT",
        /^experts\.up\.tensor: expected /,
      );
    }
    for (const intermediateSize of [2 ** 52, 2 ** 45]) {
      expectError(
        () => api.MoeLayer.create({ ...good, intermediateSize }),
        intermediateSize === 2 ** 52 ? "INVALID_ARGUMENT" : "OUT_OF_MEMORY",
        /./,
      );
    }
    const sharedExpert = { intermediateSize: 2 ** 50 };
    expectError(
      () => api.MoeLayer.create({ ...good, sharedExpert }),
      "INVALID_ARGUMENT",
      /^sharedExpert\.intermediateSize: expected fewer than 2\^31 experts/,
    );
  });
});

test("a history that is none is refused", () => {
  const summary = {
    calls: 1,
    tokens: 2,
    choices: 2,
    dropped: 0,
    tokensPerExpert: [1, 1],
    meanEntropy: 0,
    maximumViolation: 0,
  };
  const history = { ...summary, importance: [0, 0], windows: [summary] };
  expect(api.heatMap(history)).toContain("call 0");
  const bad = [
    [null, /^history: expected an object/],
    [{}, /^history\.calls: expected an integer/],
    [{ ...history, tokensPerExpert: [] }, /^history\.tokensPerExpert: expected at least one expert/],
    [{ ...history, tokensPerExpert: { length: 2 } }, /^history\.tokensPerExpert: expected a list/],
    [{ ...history, tokensPerExpert: [1, Number.NaN] }, /^history\.tokensPerExpert\[1\]: expected an integer/],
    [{ ...history, windows: [{ ...summary, tokensPerExpert: [1] }] }, /^history\.windows\[0\]\.tokensPerExpert: /],
  ] as const;
  for (const [value, message] of bad) expectError(() => api.heatMap(anything(value)), "INVALID_ARGUMENT", message);
});

test("no value is too long for a message", () => {
  const long = "x".repeat(1e6);
  for (const value of [long, Symbol(long), Object.defineProperty(() => {}, "name", { value: long })]) {
    expectError(() => api.openDevice(anything(value)), "INVALID_ARGUMENT", /^.{1,200}$/);
  }
  expect(new api.MoeError("INTERNAL", long).message.length).toBeLessThanOrEqual(4096);
  expect(new api.MoeError("INTERNAL", `first ${long} last`).message).toMatch(/^first x+ \.\.\. .* characters .* last$/);
});

describe("lists that say that they are long", () => {
  /** Each entry is `value`. */
  const long = (length: number, value: unknown) =>
    anything(new Proxy([], { get: (_, name) => (name === "length" ? length : value) }));

  test.each([2 ** 20 + 1, 2 ** 32 - 1, 2 ** 53 - 1])("are refused before they are read: %d entries", (length) => {
    using device = api.openDevice("simt");
    const [E, I, H] = [4, 3, 2];
    const experts = { up: device.zeros([E, I, H], "f32"), down: device.zeros([E, H, I], "f32") };
    const config = { device, hiddenSize: H, intermediateSize: I, topK: 1, router: device.zeros([E, H], "f32") };
    const activation = "relu" as const;
    using layer = api.MoeLayer.create({ ...config, numExperts: E, activation, experts, offload: { slots: 2 } });
    const x = device.zeros([1, H], "f32");
    const message = (name: string) => new RegExp(`^${name}\\.length: expected an integer from 0 to 1048576, got `);
    expectError(() => layer.offload?.prefetch(long(length, 0)), "INVALID_ARGUMENT", message("ids"));
    expectError(() => layer.forward(x, { want: long(length, "logits") }), "INVALID_ARGUMENT", message("want"));
    const many = { ...config, numExperts: 2 ** 21, activation, experts: long(length, {}) };
    expectError(() => api.MoeLayer.create(many), "INVALID_ARGUMENT", message("experts"));
    const tensors = { x: { dtype: "U8" as const, shape: long(length, 1), data: new Uint8Array(1) } };
    expectError(() => serializeSafetensors(tensors), "INVALID_ARGUMENT", message('tensors\\["x"\\]\\.shape'));
    const most = length > 2 ** 26 ? length : 2 ** 26 + 1;
    expectError(() => device.tensor(long(most, 1)), "INVALID_ARGUMENT", /^data: expected at most/);
  });
});
