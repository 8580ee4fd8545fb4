import { describe, expect, test } from "vitest";
import { decodeHalves, encodeHalves, openDevice, type Tensor } from "../../lib/index.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

describe.each(deviceNames)("reading into arrays on %s", (name) => {
  const device = openForTests(name);
  const values = Float32Array.from(new Random("read").normals(300, 1));

  test.each(["f32", "f16", "bf16"] as const)("gives what data() and raw() give: %s", async (dtype) => {
    using tensor: Tensor = device().tensor(values, [10, 30], dtype);
    const [data, raw] = [await tensor.data(), await tensor.raw()];
    for (const shared of [false, true]) {
      const memory = (bytes: number) => (shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
      // The whole of an array, and a part of its buffer.
      for (const offset of [0, 64]) {
        const target = new Float32Array(memory(4 * 300 + 2 * offset), offset, 300);
        await tensor.readInto(target);
        expect(target).toEqual(data);
        const bits = raw instanceof Uint16Array ? new Uint16Array(memory(600 + offset), offset, 300) : target;
        tensor.readIntoSync(bits.fill(0));
        expect(bits).toEqual(raw);
        if (offset > 0) expect(new Uint8Array(target.buffer, 0, offset).every((byte) => byte === 0)).toBe(true);
      }
    }
  });

  test("integers, and no values", async () => {
    using ids = device().tensor(Int32Array.of(1, -2, 3));
    const target = new Int32Array(3);
    await ids.readInto(target);
    expect(target).toEqual(Int32Array.of(1, -2, 3));
    using none = device().empty([0, 5], "u8");
    await none.readInto(new Uint8Array(0));
    none.readIntoSync(new Uint8Array(0));
  });

  test("reads in order with the enqueued work, many at a time", async () => {
    using tensor = device().zeros([1000], "f32");
    const targets = Array.from({ length: 8 }, () => new Float32Array(1000));
    const reads = targets.map(async (target, index) => {
      tensor.write(new Float32Array(1000).fill(index));
      await tensor.readInto(target);
    });
    await Promise.all(reads);
    expect(targets.map((target) => [...new Set(target)])).toEqual(targets.map((_, index) => [index]));
  });

  test("refuses other arrays", async () => {
    using tensor = device().zeros([4], "bf16");
    const read = (target: unknown) => () => tensor.readIntoSync(target as Float32Array);
    const message = /target: expected a Float32Array or Uint16Array of the tensor's 4 values/;
    expectError(read(new Float32Array(5)), "INVALID_ARGUMENT", message);
    expectError(read(new Float64Array(4)), "INVALID_ARGUMENT", message);
    expectError(read([1, 2, 3, 4]), "INVALID_ARGUMENT", message);
    const resizable = Reflect.construct(ArrayBuffer, [16, { maxByteLength: 32 }]) as ArrayBuffer;
    expectError(read(new Float32Array(resizable)), "INVALID_ARGUMENT", /buffer of fixed length/);
    await expectRejection(tensor.readInto(new Float32Array(3)), "INVALID_ARGUMENT", message);
    tensor.dispose();
    await expectRejection(tensor.readInto(new Float32Array(4)), "DISPOSED", /used after dispose/);
  });
});

test.each(["cpu", "simt"] as const)("a buffer that is transferred meanwhile is not written to: %s", async (name) => {
  const device = openDevice(name, { poison: true });
  using tensor = device.zeros([2 ** 16], "f32");
  const target = new Float32Array(2 ** 16).fill(1);
  const reading = tensor.readInto(target);
  const moved = structuredClone(target.buffer, { transfer: [target.buffer] });
  await expectRejection(reading, "INVALID_ARGUMENT", /target: expected an array that keeps its buffer/);
  expect(new Float32Array(moved).every((value) => value === 1)).toBe(true);
  await device.close();
});

describe("conversion of arrays", () => {
  test.each(["f16", "bf16"] as const)("%s", async (dtype) => {
    const device = openDevice("cpu", { poison: true });
    const values = Float32Array.from([...new Random("halves").normals(500, 100), 0, -0, 1e9, Number.POSITIVE_INFINITY]);
    using tensor = device.tensor(values, undefined, dtype);
    expect(encodeHalves(values, dtype)).toEqual(await tensor.raw());
    expect(decodeHalves(await tensor.raw(), dtype)).toEqual(await tensor.data());
    expect(encodeHalves(Float64Array.from(values), dtype)).toEqual(await tensor.raw());
    expectError(() => encodeHalves(values, "f32" as "f16"), "INVALID_ARGUMENT", /dtype: expected one of "f16", "bf16"/);
    expectError(() => decodeHalves(values as never, dtype), "INVALID_ARGUMENT", /bits: expected a Uint16Array/);
    await device.close();
  });
});
