import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { type ExpertRole, expertRoles, expertShapes } from "../../lib/layer/weights/expert_weights.js";
import type { Orient, Stacking, StoredWeight, Weight } from "../../lib/layer/weights/weight_layout.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import type { Part } from "../../lib/operators/experts/quantized_weight.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

/** How one weight is stored. */
interface Storage {
  readonly orient: Orient;
  readonly part: Part | undefined;
  readonly stacked: Stacking;
}

const anyStorage: fc.Arbitrary<Storage> = fc.record({
  orient: fc.constantFrom("out_in", "in_out"),
  part: fc.constantFrom(undefined, "first_half", "second_half", "even", "odd"),
  stacked: fc.constantFrom("dim0", "rows"),
});

interface Problem {
  readonly hidden: number;
  readonly inner: number;
  readonly width: number;
  readonly experts: number;
  readonly storages: readonly Storage[];
  readonly seed: number;
}

const anyProblem: fc.Arbitrary<Problem> = fc.record({
  hidden: fc.integer({ min: 1, max: 40 }),
  inner: fc.integer({ min: 1, max: 20 }),
  width: fc.integer({ min: 1, max: 50 }),
  experts: fc.integer({ min: 1, max: 5 }),
  storages: fc.array(anyStorage, { minLength: expertRoles.length, maxLength: expertRoles.length }),
  seed: fc.nat(),
});

/**
 * One matrix's values [outputs, inputs], or a bias, in a tensor of another layout; the tensor's other outputs are NaN.
 */
function stored(values: Float32Array, [outputs, inputs = 1]: Shape, { orient, part }: Storage): Float32Array {
  const all = (outputs as number) * (part === undefined ? 1 : 2);
  const result = new Float32Array(all * inputs).fill(Number.NaN);
  for (let output = 0; output < (outputs as number); output++) {
    const interleaved = part === "even" || part === "odd";
    const shift = part === "second_half" ? (outputs as number) : part === "odd" ? 1 : 0;
    const place = (interleaved ? 2 : 1) * output + shift;
    for (let input = 0; input < inputs; input++) {
      const index = orient === "in_out" ? input * all + place : place * inputs + input;
      result[index] = values[output * inputs + input] as number;
    }
  }
  return result;
}

function storedShape([outputs, inputs]: Shape, { orient, part }: Storage): number[] {
  const all = (outputs as number) * (part === undefined ? 1 : 2);
  if (inputs === undefined) return [all];
  return orient === "in_out" ? [inputs, all] : [all, inputs];
}

const layoutOf = ({ orient, part }: Storage) => ({ orient, ...(part && { part }) });

/**
 * The output of a layer with weights in PyTorch's layout, or stored as the problem says: one tensor each, or stacked.
 */
function outputOf(device: Device, problem: Problem, how: "plain" | "stored" | "stacked"): Float32Array {
  const { hidden, inner, width, experts, storages, seed } = problem;
  const random = new Random(seed);
  const one = (values: Float32Array, shape: Shape, storage: Storage): Weight => {
    if (how === "plain") return device.tensor(values, shape);
    const tensor = device.tensor(stored(values, shape, storage), storedShape(shape, storage));
    return { ...layoutOf(storage), tensor };
  };
  const several = (values: readonly Float32Array[], shape: Shape, storage: Storage): StoredWeight => {
    const all = Float32Array.from(values.flatMap((one) => [...stored(one, shape, storage)]));
    const [first, ...rest] = storedShape(shape, storage) as [number, ...number[]];
    const stackedShape = storage.stacked === "dim0" ? [experts, first, ...rest] : [experts * first, ...rest];
    return { ...layoutOf(storage), stacked: storage.stacked, tensor: device.tensor(all, stackedShape) };
  };
  const draw = (shape: Shape) => random.normals(shapeSize(shape), 0.5);
  const expertValues = (inner: number) =>
    new Map(expertRoles.map((role) => [role, draw(expertShapes(hidden, inner)[role])] as const));
  const storageOf = (role: ExpertRole) => storages[expertRoles.indexOf(role)] as Storage;
  const values = Array.from({ length: experts }, () => expertValues(inner));
  const byRole = <T>(weight: (role: ExpertRole) => T) =>
    Object.fromEntries(expertRoles.map((role) => [role, weight(role)])) as Record<ExpertRole, T>;
  const shared = expertValues(width);
  const get = (of: Map<ExpertRole, Float32Array>, role: ExpertRole) => of.get(role) as Float32Array;
  const options: MoeLayerOptions = {
    device,
    hiddenSize: hidden,
    intermediateSize: inner,
    numExperts: experts,
    topK: 1,
    multiplier: true,
    sharedExpert: { intermediateSize: width, gate: "sigmoid" },
    router: one(draw([experts, hidden]), [experts, hidden], storages[0] as Storage),
    routerBias: one(draw([experts]), [experts], storages[1] as Storage),
    selectionBias: one(draw([experts]), [experts], storages[2] as Storage),
    sharedGate: one(draw([1, hidden]), [1, hidden], storages[3] as Storage),
    sharedGateBias: one(draw([1]), [1], storages[4] as Storage),
    shared: byRole((role) => one(get(shared, role), expertShapes(hidden, width)[role], storageOf(role))),
    experts:
      how === "stacked"
        ? byRole((role) =>
            several(
              values.map((of) => get(of, role)),
              expertShapes(hidden, inner)[role],
              storageOf(role),
            ),
          )
        : values.map((of) => byRole((role) => one(get(of, role), expertShapes(hidden, inner)[role], storageOf(role)))),
  };
  using layer = MoeLayer.create(options);
  using x = device.tensor(new Random(1).normals(3 * hidden), [3, hidden]);
  using y = layer.forward(x);
  return y.dataSync();
}

describe.each(deviceNames)("weights in any storage on %s", (name) => {
  const device = openForTests(name);

  test.each(["stored", "stacked"] as const)("%s give the same bits as plain ones", (how) => {
    fc.assert(
      fc.property(anyProblem, (problem) => {
        const plain = outputOf(device(), problem, "plain");
        expect(plain.every(Number.isFinite)).toBe(true);
        expect(outputOf(device(), problem, how)).toEqual(plain);
      }),
      { numRuns: 15 },
    );
  });
});

describe("bad storages", () => {
  const device = openForTests("reference");
  const options = (router: unknown, up?: unknown): MoeLayerOptions => {
    const zeros = (...shape: number[]) => device().tensor(new Float32Array(shapeSize(shape)), shape);
    const expert = { up: up ?? zeros(3, 5), down: zeros(5, 3) } as never;
    return {
      device: device(),
      hiddenSize: 5,
      intermediateSize: 3,
      numExperts: 2,
      topK: 1,
      activation: "relu",
      router: (router ?? zeros(2, 5)) as never,
      experts: [expert, expert],
    };
  };
  const zeros = (...shape: number[]) => device().tensor(new Float32Array(shapeSize(shape)), shape);

  test.each<[string, () => MoeLayerOptions, RegExp]>([
    ["no tensor", () => options(7), /^router: expected a Tensor, as .* makes, or \{ tensor, .*, got 7$/],
    ["an object without one", () => options({}), /^router\.tensor: expected a Tensor, got undefined$/],
    [
      "an orientation",
      () => options({ tensor: zeros(2, 5), orient: "up" }),
      /^router\.orient: expected one of "out_in"/,
    ],
    ["a part", () => options({ tensor: zeros(2, 5), part: "third" }), /^router\.part: expected one of "first_half"/],
    [
      "a stacked router",
      () => options({ tensor: zeros(2, 5), stacked: "rows" }),
      /^router\.stacked cannot be combined with a tensor that holds a single matrix$/,
    ],
    [
      "a stacked expert in a list",
      () => options(undefined, { tensor: zeros(3, 5), stacked: "dim0" }),
      /^experts\[0\]\.up\.stacked cannot be combined with/,
    ],
  ])("%s", (_what, bad, message) => {
    expectError(() => MoeLayer.create(bad()), "INVALID_ARGUMENT", message);
  });

  test("a tensor of another layout than it is passed with: the error says how to pass it", () => {
    const router = (...shape: number[]) => MoeLayer.create(options(zeros(...shape)));
    const up = (stored: unknown) => MoeLayer.create(options(undefined, stored));
    const inputsFirst =
      /^router: expected shape \[2, 5\], got \[5, 2\]; if its inputs come first, pass { tensor, orient: "in_out" }$/;
    expectError(() => router(5, 2), "SHAPE_MISMATCH", inputsFirst);
    expectError(
      () => up({ tensor: zeros(3, 5), orient: "in_out" }),
      "SHAPE_MISMATCH",
      /got \[3, 5\]; if its outputs come first, pass { tensor, orient: "out_in" }$/,
    );
    expectError(
      () => up(zeros(6, 5)),
      "SHAPE_MISMATCH",
      /got \[6, 5\]; if it holds this matrix and another, pass { tensor, part: "first_half" }, or with another part$/,
    );
    expectError(
      () => up(zeros(5, 6)),
      "SHAPE_MISMATCH",
      /; if its inputs come first and it holds this matrix and another, pass { tensor, orient: "in_out", part: "first_half" }, or/,
    );
    expectError(() => router(2, 6), "SHAPE_MISMATCH", /^router: expected shape \[2, 5\], got \[2, 6\]$/);
  });

  test("shapes of the storage", () => {
    const half = () => MoeLayer.create(options(undefined, { tensor: zeros(5, 3), orient: "in_out", part: "odd" }));
    expectError(half, "SHAPE_MISMATCH", /^experts\[0\]\.up\.tensor: expected shape \[5, 6\], got \[5, 3\]$/);
    const { experts: _, ...rest } = options(undefined);
    const stacked = () =>
      MoeLayer.create({
        ...rest,
        experts: { up: { tensor: zeros(2, 3, 5), stacked: "rows" }, down: zeros(2, 5, 3) },
      });
    expectError(stacked, "SHAPE_MISMATCH", /^experts\.up\.tensor: expected shape \[6, 5\], got \[2, 3, 5\]$/);
  });
});
