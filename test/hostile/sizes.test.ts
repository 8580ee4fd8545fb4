import { constants } from "node:buffer";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

// Sizes that no memory stands behind: those of empty tensors can be anything. No loop may run over them.

const many = 2 ** 44;

describe.each(deviceNames)("%s", (name) => {
  // Not poisoned, so that memory of which nothing is used costs nothing.
  const device = openForTests(name, { poison: false });
  const floats = (...shape: number[]) => device().empty(shape, "f32");

  test("shapes whose sizes multiply to 2^53 and more are refused, empty ones too", () => {
    for (const shape of [
      [2 ** 30, 2 ** 30],
      [2 ** 30, 2 ** 30, 0],
    ]) {
      expectError(() => floats(...shape), "INVALID_ARGUMENT", /^shape: expected fewer than 2\^53 elements/);
    }
    expectError(() => device().empty(new Array(3e7), "f32"), "INVALID_ARGUMENT", /got array of length 30000000$/);
  });

  test("empty tensors are shown, and nested if they can be", async () => {
    expect(inspect(floats(many, 0))).toMatch(/^Tensor<f32> \[17592186044416, 0\] on \w+$/);
    await expectRejection(floats(many, 0).toArray(), "INVALID_ARGUMENT", /^toArray: expected at most 67108864 values/);
    expectError(() => floats(2 ** 25, 1).toArraySync(), "INVALID_ARGUMENT", /^toArraySync: .* 16777216 arrays/);
    expect(await floats(3, 0).toArray()).toEqual([[], [], []]);
    expect(await floats(0, many).toArray()).toEqual([]);
  });

  test("more elements than a typed array can have are refused before memory is needed for them", async () => {
    const length = constants.MAX_LENGTH + 1;
    if (device().kind === "reference" || length > 2 ** 33) return; // the memory of `reference` is a typed array
    using large = device().empty([length], "u8");
    const message = /expected at most \d+ elements, .* read rows\(begin, end\)$/;
    await expectRejection(large.data(), "INVALID_ARGUMENT", message);
    await expectRejection(large.raw(), "INVALID_ARGUMENT", message);
    expectError(() => large.dataSync(), "INVALID_ARGUMENT", message);
    expect(await large.rows(length - 2, length).data()).toHaveLength(2);
  });
});
