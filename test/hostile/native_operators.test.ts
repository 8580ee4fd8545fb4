import { describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import type { Backend } from "../../lib/core/device/backend.js";
import { Device } from "../../lib/core/device/device.js";
import { isMoeError } from "../../lib/core/errors.js";
import type { Fields } from "../../lib/core/operators/field.js";
import { type OperatorName, operators } from "../../lib/core/operators/table.js";
import type { DType } from "../../lib/core/tensors/dtype.js";
import type { Shape } from "../../lib/core/tensors/shape.js";
import type { TensorHandle } from "../../lib/core/tensors/tensor_handle.js";
import { Draws } from "../../lib/testing/inputs/draws.js";
import { Inputs } from "../../lib/testing/inputs/inputs.js";
import { cases } from "../../lib/testing/table.js";
import { changes, type Known } from "../support/changed_tensors.js";
import { deviceNames } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Native operators called without the checks of lib/operators, with one tensor that does not go with the others: every call must
// be refused before it can leave its memory.

type Operands = Readonly<Record<string, unknown>>;

/** Sizes that no other tensor of the call has, so that any will do. */
const free = [
  "gating.logits[1]",
  "gatingWeights.logits[1]",
  "lookUpExperts.table[0]",
  "expertSlots.ids[0]",
  "expertSlots.ids[1]",
  "expertSlots.slots[0]",
  "expertSlots.slots[1]",
  "sharedSlots.gate[1]",
  "sharedSlotsBackward.dSlotWeights[1]",
  "permute.x[0]",
  "unpermute.rows[0]",
  "combine.rows[0]",
  "groupedGemm.x[0]",
  "groupedGemmWeightBackward.x[0]",
  "expertTotals.ids[0]",
  "expertTotals.ids[1]",
  "expertTotals.tokens[1]",
  "expertTotalsBackward.dSums[1]",
  "columnMeans.values[0]",
  "updateSelectionBias.tokens[0]",
  "accumulate.values",
  "sumOfSquares.values[0]",
  // Without momentum there are no velocities.
  "sgd.velocity[0]",
];

/** A native device that attacks every operator at its first call whose tensors all have elements. */
class Attacker {
  readonly backend: Backend;
  readonly known = new Map<TensorHandle, Known>();
  readonly attacked = new Set<string>();
  /** Tensors that did not go with the others and were taken. */
  readonly accepted = new Set<string>();

  constructor(name: string) {
    const native = loadNative().open(name, { threads: 1, poison: true, tf32: false, fp8Sums: false, callSites: false });
    this.backend = native;
    const recorded = Object.fromEntries(
      (Object.keys(operators) as OperatorName[]).map((operator) => [operator, this.#record(operator)]),
    );
    const empty = (dtype: DType, shape: Shape) => this.#know(native.empty(dtype, shape), { dtype, shape });
    const own = { ...recorded, empty } as Partial<Backend>;
    this.device = new Device(
      name,
      new Proxy(native, {
        get(target, property) {
          if (Object.hasOwn(own, property)) return own[property as keyof Backend];
          const value = Reflect.get(target, property, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
      "",
    );
  }

  readonly device: Device;

  #know(handle: TensorHandle, known: Known): TensorHandle {
    this.known.set(handle, known);
    const view = handle.view.bind(handle);
    return Object.defineProperty(handle, "view", {
      value: (shape: Shape, offset: number) => this.#know(view(shape, offset), { ...known, shape }),
    });
  }

  #record(name: OperatorName): (operands: Operands) => void {
    return (operands) => {
      const tensors = Object.values(operands).flatMap((value) => this.known.get(value as TensorHandle) ?? []);
      const hasElements = tensors.every(({ shape }) => shape.every((size) => size > 0 && size < 100));
      if (hasElements && !this.attacked.has(name)) {
        this.attacked.add(name);
        for (const what of accepted(this, name, operands)) this.accepted.add(what);
      }
      (this.backend[name] as (operands: Operands) => void)(operands);
    };
  }

  tensor(known: Known): TensorHandle {
    const handle = this.#know(this.backend.empty(known.dtype, known.shape), known);
    handle.clear();
    return handle;
  }
}

describe.each(deviceNames.filter((name) => name !== "reference"))("%s", (name) => {
  test("operators refuse tensors that do not go together", () => {
    const attacker = new Attacker(name);
    for (const subject of cases) {
      if (attacker.attacked.size === Object.keys(operators).length) break;
      using inputs = new Inputs(attacker.device, new Draws(subject.name), false);
      for (const tensor of Object.values(subject.run(inputs))) inputs.keep(tensor);
      attacker.backend.synchronizeSync();
    }
    expect([...attacker.accepted]).toEqual([]);
    expect([...attacker.attacked].sort()).toEqual(Object.keys(operators).sort());
    attacker.device.dispose();
  });

  test("arrays whose elements have another size than a tensor's are not written", () => {
    const native = loadNative().open(name, { threads: 1, poison: true, tf32: false, fp8Sums: false, callSites: false });
    const tensor = native.empty("f32", [4]);
    for (const array of [new Uint8Array(4), new Float64Array(4)]) {
      expectError(() => tensor.write(array, false), "INVALID_ARGUMENT", /each of the dtype's size/);
      expectError(() => tensor.overwrite(array, false), "INVALID_ARGUMENT", /each of the dtype's size/);
    }
    native.dispose();
  });
});

/** The changes of single tensors that the operator takes though it should not. */
function accepted(attacker: Attacker, operator: OperatorName, operands: Operands): string[] {
  const call = (changed: Operands) => {
    (attacker.backend[operator] as (operands: Operands) => void)(changed);
    attacker.backend.synchronizeSync();
  };
  call(operands);
  const fields: Fields = operators[operator];
  return Object.keys(fields).flatMap((field) => {
    const known = attacker.known.get(operands[field] as TensorHandle);
    if (known === undefined) return [];
    return [...changes(known)].flatMap(([place, changed]) => {
      try {
        call({ ...operands, [field]: attacker.tensor(changed) });
      } catch (error) {
        if (isMoeError(error, "SHAPE_MISMATCH", "INVALID_ARGUMENT")) return [];
        // It ran, over zeros that are no ids of nothing.
        if (!isMoeError(error, "ID_OUT_OF_RANGE")) throw error;
      }
      const what = `${operator}.${field}${place}`;
      const anyShape = operator === "imbalance" || operator === "random" || operator === "copyMatrix";
      return free.includes(what) || (anyShape && place !== " dtype") ? [] : [what];
    });
  });
}
