import { test } from "vitest";
import * as api from "../../lib/index.js";
import { paths, replaced } from "../fuzz/arguments.js";
import { expectRejection } from "../support/errors.js";
import { callsForTests } from "../support/public_calls/calls_for_tests.js";
import { argumentLists } from "../support/public_calls/index.js";

// What a function writes to has memory of its own: apart from all that it reads, and from its other outputs.

const device = api.openDevice("reference");
const { calls } = await callsForTests(device);

/** The tensors among arguments. */
function tensorsIn(list: readonly unknown[]) {
  return paths(list).flatMap((path) => {
    const value = path.reduce<unknown>((outer, name) => (outer as Record<string | number, unknown>)[name], list);
    return value instanceof api.Tensor ? [{ path, tensor: value }] : [];
  });
}

const outputs = calls.flatMap((subject) =>
  argumentLists(subject).flatMap((list) => {
    const { name, call } = subject;
    const outputs = tensorsIn(list).filter(({ path }) => path.includes("out"));
    return outputs.map((output) => ({ name, call, list, output, place: output.path.slice(1).join(".") }));
  }),
);

test.each(outputs)("$name: $place", async ({ call, list, output: { path, tensor } }) => {
  const { dtype } = tensor;
  for (const other of tensorsIn(list)) {
    if (other.tensor === tensor || other.tensor.dtype !== dtype) continue;
    using both = device.zeros([Math.max(tensor.size, other.tensor.size)], dtype);
    const within = ({ shape, size }: api.Tensor) => both.rows(both.size - size, both.size).reshape(shape);
    const overlapping = [{ path, tensor }, other].reduce<unknown>((all, one) => {
      return replaced(all, one.path, within(one.tensor));
    }, list);
    const refused = async () => call(...(overlapping as unknown[]));
    await expectRejection(refused(), "INVALID_ARGUMENT", /expected memory of its own, got .*overlaps/);
  }
});
