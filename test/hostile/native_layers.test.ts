import { afterAll, describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import type { Backend, ExpertMatrices, LayerDescription, LayerHandle } from "../../lib/core/device/backend.js";
import { isMoeError } from "../../lib/core/errors.js";
import { plainWeight, type WeightMatrix } from "../../lib/core/formats/weight_format.js";
import { isGated } from "../../lib/core/layer/activation.js";
import type { StageName } from "../../lib/core/layer/stages.js";
import type { QuantizedField } from "../../lib/core/layer/weight_role.js";
import type { DType } from "../../lib/core/tensors/dtype.js";
import type { Shape } from "../../lib/core/tensors/shape.js";
import type { StridedMatrix, TensorHandle } from "../../lib/core/tensors/tensor_handle.js";
import { describeLayer } from "../../lib/layer/description/config.js";
import { weightStorage } from "../../lib/layer/description/storage.js";
import { changes, type Known } from "../support/changed_tensors.js";
import { deviceNames } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Native layers and packed experts used without the checks of lib, with sizes that do not go with the memory: every call
// must be refused before it can leave that memory.

const [T, H, I, E, k] = [5, 24, 16, 6, 2];
const config = { hiddenSize: H, intermediateSize: I, numExperts: E, topK: k };
const plain = describeLayer({ ...config, activation: "swiglu" }, "f32");
const shared = describeLayer(
  { ...config, activation: "relu", multiplier: true, sharedExpert: { intermediateSize: I, gate: "sigmoid" } },
  "bf16",
);

const storageIn = (format: string) => weightStorage({ experts: format }, { router: "f32" });

const x = { dtype: "f32", shape: [T, H] } as const;
const logits = { dtype: "f32", shape: [T, E] } as const;
const ids = { dtype: "i32", shape: [T, k] } as const;
const weights = { dtype: "f32", shape: [T, k] } as const;
const noSizes = [2 ** 53, 2 ** 62, Number.NaN, 1.5, -1];

describe.each(deviceNames.filter((name) => name !== "reference"))("%s", (name) => {
  const device = loadNative().open(name, { threads: 2, poison: true, tf32: false, fp8Sums: false, callSites: false });
  afterAll(() => device.dispose());

  function tensor({ dtype, shape }: Known): TensorHandle {
    const handle = device.empty(dtype, shape);
    handle.clear();
    return handle;
  }

  function matrix(rows: number, columns: number, dtype: DType = "f32"): StridedMatrix {
    return { handle: tensor({ dtype, shape: [rows, columns] }), rows, columns, rowStride: columns, columnStride: 1 };
  }

  const weight = (rows: number, columns: number) => plainWeight("f32", matrix(rows, columns));

  function expert(changed: Partial<ExpertMatrices> = {}): ExpertMatrices {
    const [gate, up, down] = [weight(I, H), weight(I, H), weight(H, I)];
    const biases = { gateBias: matrix(1, I), upBias: matrix(1, I), downBias: matrix(1, H) };
    return { gate, up, multiplier: null, down, ...biases, ...changed };
  }

  /** A layer whose weights are all zero. */
  function layerOf(description: LayerDescription): LayerHandle {
    const layer = device.layer(description);
    layer.setRouter(weight(E, H), matrix(1, E));
    if (description.sharedGate !== "none") layer.setSharedGate(weight(1, H), null);
    const kinds = description.multiplier ? { gate: null, gateBias: null, multiplier: weight(I, H) } : {};
    for (let index = 0; index < E + description.sharedExperts; index++) layer.setExpert(index, expert(kinds));
    return layer;
  }

  /** The calls that were taken, though they should not be. */
  function taken(calls: Readonly<Record<string, () => void>>): string[] {
    return Object.entries(calls).flatMap(([what, call]) => {
      try {
        call();
        device.synchronizeSync();
      } catch (error) {
        if (isMoeError(error, "SHAPE_MISMATCH", "INVALID_ARGUMENT", "OUT_OF_MEMORY", "ID_OUT_OF_RANGE", "INTERNAL"))
          return [];
        throw error;
      }
      return [what];
    });
  }

  test.each(["layer", "weightLayout"] as const)("%s() refuses sizes that are none", (method) => {
    const wrong: Record<string, Partial<LayerDescription>> = { "i32 biases": { biasDType: "i32" } };
    for (const field of ["hiddenSize", "intermediateSize", "numExperts", "sharedExperts"] as const) {
      for (const size of [...noSizes, ...(field === "sharedExperts" ? [] : [0])]) {
        wrong[`${field} ${size}`] = {
          [field]: size,
          ...(field === "numExperts" && { bank: { first: 0, count: size } }),
        };
      }
    }
    for (const [first, count] of [...noSizes.flatMap((size) => [[size, 1] as const, [0, size] as const])]) {
      wrong[`bank ${first} ${count}`] = { bank: { first, count } };
    }
    for (const [first, count] of [
      [0, E + 1],
      [1, E],
      [E, 1],
    ] as const) {
      wrong[`bank ${first} ${count}`] = { bank: { first, count } };
    }
    const calls = Object.entries(wrong).map(([what, changed]) => [
      what,
      () => device[method]({ ...plain, ...changed }),
    ]);
    expect(taken(Object.fromEntries(calls))).toEqual([]);
    device[method](plain);
    device[method]({ ...plain, bank: { first: 0, count: 0 } }); // as that of the shared expert beside latent ones
  });

  test("setters refuse weights that do not fit", () => {
    const layer = layerOf(plain);
    const gated = layerOf(shared);
    const calls: Record<string, () => void> = {
      "an expert too many": () => layer.setExpert(E, expert()),
      "a negative expert": () => layer.setExpert(-1, expert()),
      "no gate": () => layer.setExpert(0, expert({ gate: null })),
      "a multiplier": () => layer.setExpert(0, expert({ multiplier: weight(I, H) })),
      "no multiplier": () => gated.setExpert(0, expert({ gate: null, gateBias: null })),
      "a shared gate of none": () => layer.setSharedGate(weight(1, H), null),
      "a shared gate of two rows": () => gated.setSharedGate(weight(2, H), null),
      "a shared gate's bias of two": () => gated.setSharedGate(weight(1, H), matrix(1, 2)),
      "an i32 bias": () => layer.setExpert(0, expert({ upBias: matrix(1, I, "i32") })),
      "a bias of two rows": () => layer.setExpert(0, expert({ upBias: matrix(2, I) })),
      "a selection bias of i32": () => layer.setSelectionBias(matrix(1, E, "i32")),
    };
    for (const off of [-1, 1]) {
      calls[`router rows ${off}`] = () => layer.setRouter(weight(E + off, H), null);
      calls[`router columns ${off}`] = () => layer.setRouter(weight(E, H + off), null);
      calls[`router bias ${off}`] = () => layer.setRouter(weight(E, H), matrix(1, E + off));
      calls[`selection bias ${off}`] = () => layer.setSelectionBias(matrix(1, E + off));
      calls[`shared gate columns ${off}`] = () => gated.setSharedGate(weight(1, H + off), null);
    }
    for (const name of ["gate", "up"] as const) {
      calls[`${name} rows`] = () => layer.setExpert(0, expert({ [name]: weight(I + 1, H) }));
      calls[`${name} columns`] = () => layer.setExpert(0, expert({ [name]: weight(I, H + 1) }));
      calls[`${name}Bias`] = () => layer.setExpert(0, expert({ [`${name}Bias`]: matrix(1, I + 1) }));
    }
    const multiplier = (rows: number, columns: number) =>
      gated.setExpert(0, expert({ gate: null, gateBias: null, multiplier: weight(rows, columns) }));
    calls["multiplier rows"] = () => multiplier(I + 1, H);
    calls["multiplier columns"] = () => multiplier(I, H + 1);
    calls["down rows"] = () => layer.setExpert(0, expert({ down: weight(H + 1, I) }));
    calls["down columns"] = () => layer.setExpert(0, expert({ down: weight(H, I + 1) }));
    calls["down bias"] = () => layer.setExpert(0, expert({ downBias: matrix(1, H + 1) }));
    expect(taken(calls)).toEqual([]);
    // Smaller ones are filled with zeros.
    layer.setExpert(0, expert({ up: weight(I - 1, H - 1), upBias: matrix(1, 1), down: weight(1, 1) }));
    device.synchronizeSync();
  });

  test("copies refuse tensors of other sizes", () => {
    const layer = layerOf(plain);
    const quantized = device.layer(describeLayer(config, storageIn("u4_g16_bf16")));
    const smallest = device.layer(describeLayer({ hiddenSize: 1, intermediateSize: 1, numExperts: 1, topK: 1 }, "f32"));
    const copies = (role: "gate" | "down", expert: number, field: QuantizedField, dtype: DType, ...shape: Shape) =>
      quantized.copyField(role, expert, field, tensor({ dtype, shape }));
    const calls: Record<string, () => void> = {
      "a selection bias of i32": () => layer.copySelectionBias(tensor({ dtype: "i32", shape: [E] })),
      "a longer selection bias": () => layer.copySelectionBias(tensor({ dtype: "f32", shape: [E + 1] })),
      "a field of a float matrix": () =>
        layer.copyField("gate", 0, "codes", tensor({ dtype: "u8", shape: [I, 4 * H] })),
      "a negative expert": () => copies("gate", -1, "codes", "u8", I, H / 2),
      "an expert too many": () => copies("gate", E, "codes", "u8", I, H / 2),
      "a matrix that the layer lacks": () =>
        quantized.copyField("multiplier", 0, "codes", tensor({ dtype: "u8", shape: [I, H / 2] })),
      "a field that the format lacks": () => copies("gate", 0, "superScales", "f16", I, 1),
      "codes of fewer rows": () => copies("gate", 0, "codes", "u8", I - 1, H / 2),
      "codes across": () => copies("gate", 0, "codes", "u8", H / 2, I),
      "scales of f32": () => copies("gate", 0, "scales", "f32", I, 2),
      "scales of whole groups": () => copies("gate", 0, "scales", "bf16", I, 1),
      "another matrix's zero points": () => copies("down", 0, "zeros", "u8", I, 2),
      "a longer input scale": () => copies("gate", 0, "inputScale", "f32", H + 1),
      "a number for a matrix": () => smallest.copyWeight("up", 0, tensor({ dtype: "f32", shape: [] })),
      "a quantised matrix as bf16": () => quantized.copyWeight("gate", 0, tensor({ dtype: "bf16", shape: [I, H] })),
      "a matrix of f32 as f16": () => layer.copyWeight("up", 0, tensor({ dtype: "f16", shape: [I, H] })),
      "an input order of f32": () => copies("gate", 0, "inputOrder", "f32", H),
    };
    expect(taken(calls)).toEqual([]);
  });

  test("matrices that reach beyond their memory are refused", () => {
    const layer = layerOf(plain);
    const set = (changed: Partial<StridedMatrix>) => layer.setSelectionBias({ ...matrix(1, E), ...changed });
    const calls: Record<string, () => void> = {};
    for (const field of ["rows", "columns", "rowStride", "columnStride"] as const) {
      for (const value of [2 ** 40, ...noSizes]) {
        // The stride of a single row is of no consequence.
        if (field === "rowStride" && value > 0 && Number.isInteger(value)) continue;
        calls[`${field} ${value}`] = () => set({ [field]: value });
      }
    }
    calls["strides whose product overflows"] = () =>
      layer.setRouter(plainWeight("f32", { ...matrix(E, H), rowStride: 2 ** 52, rows: 2 ** 12 + 1 }), null);
    expect(taken(calls)).toEqual([]);
  });

  test("weights whose parts do not fit are refused", () => {
    const wrong: Record<string, Partial<WeightMatrix>> = {
      "another dtype": { format: "bf16" },
      "more rows": { rows: E + 1 },
      "more columns": { columns: H + 1 },
      "scales of none": { scales: matrix(1, 1) },
      "zeros of none": { zeros: matrix(1, 1) },
      "a short input scale": { inputScale: tensor({ dtype: "f32", shape: [H - 1] }) },
      "an input scale of i32": { inputScale: tensor({ dtype: "i32", shape: [H] }) },
      "an input order of u8": { inputOrder: tensor({ dtype: "u8", shape: [H] }) },
    };
    const layer = layerOf(plain);
    const calls = Object.entries(wrong).map(([what, changed]) => [
      what,
      () => layer.setRouter({ ...weight(E, H), ...changed }, null),
    ]);
    expect(taken(Object.fromEntries(calls))).toEqual([]);
  });

  test("forwards refuse tensors that do not go with the layer", () => {
    const calls: Record<string, () => void> = {};
    for (const [kind, description] of Object.entries({ plain, shared })) {
      const layer = layerOf(description);
      const rows = T * (k + description.sharedExperts);
      const pre = { dtype: "f32", shape: [rows, isGated(description.activation) ? 2 * I : I] } as const;
      const known = { x, logits, ids, weights, y: x, pre, multiplied: { dtype: "f32", shape: [rows, I] } as const };
      const methods: Record<string, (given: Readonly<Record<string, TensorHandle>>) => void> = {
        logits: ({ x, logits }) => layer.logits(x as TensorHandle, logits as TensorHandle),
        route: ({ x, ids, weights }) => layer.route(x as TensorHandle, ids as TensorHandle, weights as TensorHandle),
        forward: ({ x, y }) => layer.forward(x as TensorHandle, y as TensorHandle, null, null, -1),
        routed: ({ x, y, ids, weights }) =>
          layer.forward(x as TensorHandle, y as TensorHandle, ids as TensorHandle, weights as TensorHandle, -1),
        kept: ({ x, y, pre, multiplied }) => {
          const rows = { pre: pre as TensorHandle, multiplied };
          layer.forward(x as TensorHandle, y as TensorHandle, null, null, -1, undefined, undefined, undefined, rows);
        },
        capture: ({ x, y, ids, weights }) =>
          layer
            .capture(x as TensorHandle, y as TensorHandle, ids as TensorHandle, weights as TensorHandle, -1)
            .replay(),
      };
      const uses: Record<string, readonly (keyof typeof known)[]> = {
        logits: ["x", "logits"],
        route: ["x", "ids", "weights"],
        forward: ["x", "y"],
        routed: ["x", "y", "ids", "weights"],
        kept: ["x", "y", "pre", ...(description.multiplier ? (["multiplied"] as const) : [])],
        capture: ["x", "y", "ids", "weights"],
      };
      for (const [method, names] of Object.entries(uses)) {
        const given = (changed: Partial<Record<string, Known>>) =>
          Object.fromEntries(names.map((name) => [name, tensor(changed[name] ?? known[name])]));
        methods[method]?.(given({}));
        device.synchronizeSync();
        for (const name of names) {
          for (const [place, changed] of changes(known[name])) {
            calls[`${kind} ${method} ${name}${place} ${changed.shape}`] = () =>
              methods[method]?.(given({ [name]: changed }));
          }
        }
      }
    }
    expect(taken(calls)).toEqual([]);
  });

  test("lists of stages without their tensors are refused", () => {
    const layer = layerOf(plain);
    const [given, y, chosen, weighed] = [x, x, ids, weights].map(tensor) as [
      TensorHandle,
      TensorHandle,
      TensorHandle,
      TensorHandle,
    ];
    const run = (y: TensorHandle | null, a: TensorHandle | null, b: TensorHandle | null, ...stages: StageName[]) => {
      layer.forward(given, y, a, b, -1, stages);
    };
    const inner = { dtype: "f32", shape: [T * k, 2 * I] } as const;
    const whole = ["router", "sharedGate", "gating", "sort", "gateUp", "down", "combine"] as const;
    const calls = {
      "no y": () => run(null, null, null, ...whole),
      "ids alone": () => run(y, chosen, null, ...whole),
      "weights alone": () => run(y, null, weighed, ...whole),
      "routed ids alone": () => run(y, chosen, null, "sort", "gateUp", "down", "combine"),
      "gating without logits": () => run(null, chosen, weighed, "gating"),
      "combine alone": () => run(y, chosen, weighed, "combine"),
      "a stage twice": () => run(y, chosen, weighed, "router", "router"),
      "rows of no stage": () =>
        layer.forward(given, null, chosen, weighed, -1, ["sort"], undefined, undefined, { pre: tensor(inner) }),
      "rows of a multiplier that it has not": () =>
        layer.forward(given, y, chosen, weighed, -1, undefined, undefined, undefined, {
          pre: tensor(inner),
          multiplied: tensor({ dtype: "f32", shape: [T * k, I] }),
        }),
    };
    expect(taken(calls)).toEqual([]);
    run(y, chosen, weighed, ...whole);
    device.synchronizeSync();
  });

  test("a rule that cannot choose so many experts is refused when it is to choose", () => {
    for (const rule of [{ topK: E + 1 }, { topK: 0 }, { numGroups: 4 }, { numGroups: 0 }, { topGroups: 2 ** 30 }]) {
      const layer = layerOf({ ...plain, ...rule });
      const choices = (rule as { topK?: number }).topK ?? k;
      const shape: Shape = [T, choices];
      const call = () => layer.route(tensor(x), tensor({ dtype: "i32", shape }), tensor({ dtype: "f32", shape }));
      expectError(call, "SHAPE_MISMATCH", /rule/);
      layer.forward(tensor(x), tensor(x), tensor(ids), tensor(weights), -1);
    }
    device.synchronizeSync();
  });

  test("wrong bounds on the choices, and no choices at all, do no harm", () => {
    for (const description of [plain, shared]) {
      const layer = layerOf(description);
      for (const most of [-5, 0, 1, 2 ** 53]) {
        taken({ bound: () => layer.forward(tensor(x), tensor(x), tensor(ids), tensor(weights), most) });
      }
      const [y, none] = [tensor(x), { shape: [T, 0] } as const];
      layer.forward(tensor(x), y, tensor({ dtype: "i32", ...none }), tensor({ dtype: "f32", ...none }), -1);
      expect(new Float32Array(y.readSync(false))).toEqual(new Float32Array(T * H));
    }
  });

  test("a layer whose weights were never set does no harm", () => {
    for (const description of [plain, shared]) {
      const layer = (device as Backend).layer(description);
      taken({ forward: () => layer.forward(tensor(x), tensor(x), null, null, -1) });
      taken({ routed: () => layer.forward(tensor(x), tensor(x), tensor(ids), tensor(weights), -1) });
    }
  });

  test("stored parts of other sizes are refused", () => {
    if (device.weightLayout(plain) === "") return;
    const parts = layerOf(plain).parts();
    device.synchronizeSync();
    const calls: Record<string, () => void> = {};
    for (const [part, handle] of Object.entries(parts)) {
      const bytes = handle.map()?.length as number;
      calls[`short ${part}`] = () => device.layer(plain, { ...parts, [part]: handle.view([bytes - 64], 64) });
    }
    for (const changed of [{ hiddenSize: H + 1 }, { intermediateSize: 4 * I }, { numExperts: E + 64 }]) {
      calls[JSON.stringify(changed)] = () => device.layer({ ...plain, ...changed }, parts);
    }
    calls["a part too many"] = () => device.layer(plain, { ...parts, other: tensor(x) });
    expect(taken(calls)).toEqual([]);
    device.layer(plain, parts).forward(tensor(x), tensor(x), null, null, -1);
    device.synchronizeSync();
  });

  test("packed experts refuse sizes and weights that do not fit", () => {
    const pack = (experts: number, rows: number, columns: number) =>
      device.packedExperts(experts, rows, columns, "f32", "swiglu", plain.clamp, "none");
    const packed = pack(2, 8, 6);
    const set = (index: number, rows: number, columns: number, up: WeightMatrix | null) => () =>
      packed.setExpert(index, weight(rows, columns), up);
    const calls: Record<string, () => void> = {
      "an odd number of rows": () => void pack(2, 7, 6),
      "an expert too many": set(2, 4, 6, weight(4, 6)),
      "a negative expert": set(-1, 4, 6, weight(4, 6)),
      "no up": set(0, 4, 6, null),
      rows: set(0, 5, 6, weight(4, 6)),
      columns: set(0, 4, 7, weight(4, 6)),
      "rows of up": set(0, 4, 6, weight(5, 6)),
      "columns of up": set(0, 4, 6, weight(4, 7)),
    };
    for (const size of [2 ** 40, ...noSizes]) {
      calls[`experts ${size}`] = () => void pack(size, 8, 6);
      calls[`rows ${size}`] = () => void pack(2, size, 6);
      calls[`columns ${size}`] = () => void pack(2, 8, size);
    }
    expect(taken(calls)).toEqual([]);
    set(1, 4, 6, weight(3, 5))();
    device.synchronizeSync();
  });

  test("methods and accessors refuse objects of other classes", () => {
    const packed = device.packedExperts(2, 8, 6, "f32", "swiglu", plain.clamp, "none");
    const budget = device.offloadBudget({ slots: 1, bytes: 0, policy: "lfru" });
    const objects = [device, tensor(x), layerOf(plain), packed, budget, device.cancellation()];
    let members = 0;
    for (const object of objects) {
      const others = [{}, 1, ...objects.filter((other) => other !== object)];
      const prototype = Object.getPrototypeOf(object) as object;
      for (const [name, { get, value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
        if (name === "constructor") continue;
        for (const other of others) expect(() => (get ?? value).call(other), name).toThrow(TypeError);
        members++;
      }
    }
    expect(members).toBeGreaterThan(80);
  });

  test("objects that JavaScript makes by itself hold nothing", () => {
    const packed = device.packedExperts(2, 8, 6, "f32", "swiglu", plain.clamp, "none");
    const budget = device.offloadBudget({ slots: 1, bytes: 0, policy: "lfru" });
    for (const object of [tensor(x), layerOf(plain), packed, budget]) {
      const made = new (object.constructor as new () => object)();
      const members = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(made) as object);
      for (const [name, { get, value }] of Object.entries(members)) {
        if (get) expectError(() => get.call(made), "DISPOSED", /used after dispose/);
        else if (name === "free") value.call(made);
        else if (name !== "constructor") expect(() => value.call(made), name).toThrow();
      }
    }
  });

  test("arguments that free what they are given to do no harm", () => {
    /** Has `free` called when a property is read. */
    function freedBy<Target extends object>(free: () => void, target: Target, key: PropertyKey): Target {
      const value = Reflect.get(target, key);
      return Object.defineProperty(target, key, { get: () => [free(), value][1] });
    }
    const packed = device.packedExperts(2, 8, 6, "f32", "none", plain.clamp, "none");
    const matrices = freedBy(() => packed.free(), weight(8, 6), "scales");
    expectError(() => packed.setExpert(0, matrices, null), "DISPOSED", /^packed experts: used after dispose/);

    const layer = layerOf(plain);
    layer.prefetch(freedBy(() => layer.free(), [0], 0));
    expectError(() => device.synchronizeSync(), "INVALID_ARGUMENT", /^prefetch requires a layer with offload/);

    const other = loadNative().open(name, { threads: 1, poison: true, tf32: false, fp8Sums: false, callSites: false });
    const sizes = freedBy(() => other.dispose(), [4], 0);
    expectError(() => other.wrapPointer(64n, "f32", sizes, () => {}), "DISPOSED", /^device: used after dispose/);
  });
});
