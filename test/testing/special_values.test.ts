import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { Case, CaseOperator } from "../../lib/testing/case.js";
import { cases } from "../../lib/testing/table.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { type Special, SpecialInputs, TooLarge } from "../support/special_inputs.js";

// One NaN or infinity in each input of every operator. What `reference` makes NaN or infinite, no device may hide, and nothing
// else may become so. Where `reference` has an infinity, a device may have NaN: docs/numerics.md says where.

/** A backward pass of a layer takes longest. */
const casesOf = (operator: CaseOperator): number => ({ layer: 2, layerBackward: 1 })[operator as string] ?? 6;
/** Larger cases would only take longer. */
const mostNumbers = 3000;
/** Operators whose inputs are integers, codes or nothing. */
const withoutFloats: ReadonlySet<CaseOperator> = new Set([
  "lookUpExperts",
  "sort",
  "expertSlots",
  "dequantize",
  "random",
]);

type Outputs = Readonly<Record<string, ArrayLike<number>>>;

/** All of a list, neighbours far apart. */
function spread<T>(list: readonly T[]): T[] {
  const place = (index: number) => (index * 0.618034) % 1;
  return [...list.keys()].sort((a, b) => place(a) - place(b)).map((index) => list[index] as T);
}

/** The sizes of a case's float tensors; undefined if it has none, or large ones. */
function sizesOf(source: Case, reference: Device): readonly number[] | undefined {
  using inputs = new SpecialInputs(reference, source, true, undefined, mostNumbers);
  try {
    for (const tensor of Object.values(source.run(inputs))) inputs.keep(tensor);
  } catch (error) {
    if (error instanceof TooLarge) return undefined;
    throw error;
  }
  return inputs.sizes.some((size) => size > 0) ? inputs.sizes : undefined;
}

async function outputsOf(source: Case, device: Device, expects: boolean, special: Special): Promise<Outputs> {
  using inputs = new SpecialInputs(device, source, expects, special);
  const values: [string, ArrayLike<number>][] = [];
  for (const [name, tensor] of Object.entries(source.run(inputs))) {
    values.push([name, await inputs.keep(tensor).data()]);
  }
  return Object.fromEntries(values);
}

function isRight(value: number, expected: number, most: number): boolean {
  if (Number.isFinite(expected)) return Math.abs(value - expected) <= most;
  return Number.isNaN(value) || value === expected;
}

/** The first wrong value of each output. */
function problems(source: Case, outputs: Outputs, expected: Outputs): string[] {
  const finite = Object.values(expected).flatMap((values) => Array.from(values).filter(Number.isFinite));
  const magnitude = finite.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return Object.entries(expected).flatMap(([output, wanted]) => {
    const values = outputs[output] as ArrayLike<number>;
    const most = Math.max(magnitude, source.magnitudes?.[output] ?? 0) * (source.tolerances[output] ?? 0);
    const first = Array.from(wanted).findIndex((value, i) => !isRight(values[i] as number, value, most));
    return first < 0 ? [] : [`${output}[${first}] is ${values[first]} instead of ${wanted[first]}`];
  });
}

describe("special values", () => {
  const reference = openForTests("reference");
  const devices = kernelPaths.map((path) => ({ label: path.label, device: openForTests(path) }));
  const operators = [...new Set(cases.map(({ operator }) => operator))].filter((name) => !withoutFloats.has(name));

  test.each(operators)("%s", async (operator) => {
    const wrong: string[] = [];
    let tested = 0;
    for (const source of spread(cases.filter((one) => one.operator === operator))) {
      if (tested === casesOf(operator)) break;
      const sizes = sizesOf(source, reference());
      if (sizes === undefined) continue;
      tested++;
      for (const [tensor, size] of sizes.entries()) {
        for (const value of size > 0 ? [Number.NaN, Number.POSITIVE_INFINITY] : []) {
          const special = { tensor, value };
          const expected = await outputsOf(source, reference(), true, special);
          for (const { label, device } of devices) {
            const outputs = await outputsOf(source, device(), false, special);
            for (const text of problems(source, outputs, expected)) {
              wrong.push(`${source.name}, ${value} in tensor ${tensor}, ${label}: ${text}`);
            }
          }
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(tested).toBeGreaterThan(0);
  });
});
