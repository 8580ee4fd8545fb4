import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { encodeHalves, openDevice, rmsNorm, type Tensor } from "../../lib/index.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

// Tensors over memory that is there already, and the memory of tensors as arrays.

const shared = (bytes: number) => new SharedArrayBuffer(bytes);
const onHost = deviceNames.filter((name) => !name.startsWith("cuda"));

describe.each(onHost)("on %s", (name) => {
  const device = openForTests(name);

  test("a tensor over shared memory is that memory", async () => {
    const values = new Float32Array(shared(64), 16, 12);
    values.set([3, 4, 0, 0, 6, 8, 0, 0, 5, 12, 0, 0]);
    using x = device().wrap(values, [3, 4]);
    expect(x).toMatchObject({ dtype: "f32", shape: [3, 4] });
    expect(await x.data()).toEqual(Float32Array.from(values));
    const ones = device().tensor([1, 1, 1, 1]);
    const y = new Float32Array(shared(48));
    using out = device().wrap(y, [3, 4]);
    rmsNorm(x, ones, { epsilon: 1e-30, out });
    await device().synchronize();
    expect(y[0]).toBeCloseTo(1.2, 6);
    values[0] = 0;
    rmsNorm(x, ones, { out });
    await device().synchronize();
    expect(y[0]).toBe(0);
    expect(y[1]).toBeCloseTo(2, 5);
    out.write(Float32Array.from({ length: 12 }, (_, i) => i));
    await device().synchronize();
    expect(Array.from(y)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(await out.rows(1, 2).data()).toEqual(Float32Array.of(4, 5, 6, 7));
  });

  test("other dtypes", async () => {
    const halves = new Uint16Array(shared(6));
    halves.set(encodeHalves(Float32Array.of(1, -2, 0.5), "bf16"));
    expect(await device().wrap(halves, undefined, "bf16").data()).toEqual(Float32Array.of(1, -2, 0.5));
    const integers = new Int32Array(shared(8));
    integers[1] = -7;
    expect(await device().wrap(integers).data()).toEqual(Int32Array.of(0, -7));
    const bytes = new Uint8Array(shared(3), 1, 2);
    bytes[0] = 9;
    expect(await device().wrap(bytes, [2, 1]).data()).toEqual(Uint8Array.of(9, 0));
    expect(
      await device()
        .wrap(new Float32Array(shared(0)), [0, 4])
        .data(),
    ).toEqual(new Float32Array(0));
  });

  test("the array lives while work or a view needs it", async () => {
    const view = ((): Tensor<"f32"> => {
      const values = new Float32Array(shared(1 << 20)).fill(2);
      using whole = device().wrap(values, [1 << 10, 1 << 8]);
      return whole.rows(5, 7);
    })();
    for (let i = 0; i < 20; i++) {
      new Float32Array(shared(1 << 20)).fill(i);
      globalThis.gc?.();
    }
    expect((await view.data()).every((value) => value === 2)).toBe(true);
    view.dispose();
  });

  test("outputs that overlap inputs in one buffer are refused", () => {
    const buffer = shared(64);
    const x = device().wrap(new Float32Array(buffer, 0, 8), [2, 4]);
    const out = device().wrap(new Float32Array(buffer, 28, 8), [2, 4]);
    const apart = device().wrap(new Float32Array(buffer, 32, 8), [2, 4]);
    const weight = device().zeros([4], "f32");
    expectError(() => rmsNorm(x, weight, { out }), "INVALID_ARGUMENT", /^out: expected memory of its own/);
    rmsNorm(x, weight, { out: apart });
    // Another thread's object of the same memory. JavaScript cannot see that two are the same.
    if (name === "reference") return;
    const again = structuredClone(buffer);
    const overlapping = device().wrap(new Float32Array(again, 28, 8), [2, 4]);
    expectError(() => rmsNorm(x, weight, { out: overlapping }), "INVALID_ARGUMENT", /^out: expected memory of its own/);
    rmsNorm(x, weight, { out: device().wrap(new Float32Array(again, 32, 8), [2, 4]) });
    const own = device().zeros([4, 4], "f32");
    const pointed = device().fromDLPack(own.rows(1, 3).toDLPack()) as Tensor<"f32">;
    expectError(() => rmsNorm(pointed, weight, { out: own.rows(0, 2) }), "INVALID_ARGUMENT", /^out: expected memory/);
    expectError(() => rmsNorm(own.rows(2, 4), weight, { out: pointed }), "INVALID_ARGUMENT", /^out: expected memory/);
    rmsNorm(pointed, weight, { out: device().zeros([2, 4], "f32") });
  });

  test("other arrays are refused by name", () => {
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    const wrap = (source: any, shape?: any, dtype?: any) => device().wrap(source, shape, dtype);
    expectError(
      () => wrap(new Float32Array(4)),
      "INVALID_ARGUMENT",
      /^source: expected an array over a SharedArrayBuffer/,
    );
    const growable = Reflect.construct(SharedArrayBuffer, [16, { maxByteLength: 64 }]);
    expectError(
      () => wrap(new Float32Array(growable)),
      "INVALID_ARGUMENT",
      /^source: expected an array over a buffer of fixed/,
    );
    expectError(() => wrap(shared(16)), "INVALID_ARGUMENT", /^source: expected a Float32Array/);
    expectError(() => wrap([1, 2]), "INVALID_ARGUMENT", /^source: expected a Float32Array/);
    const four = new Float32Array(shared(16));
    expectError(() => wrap(four, [2, 3]), "SHAPE_MISMATCH", /^source: expected 6 values for shape \[2, 3\], got 4/);
    expectError(
      () => wrap(four, [4], "bf16"),
      "UNSUPPORTED_DTYPE",
      /^dtype: expected that of a Float32Array, got bf16/,
    );
    expectError(() => wrap(new Uint16Array(shared(4))), "INVALID_ARGUMENT", /^dtype: expected "f16" or "bf16"/);
    if (name === "reference") return;
    expectError(() => wrap(new Float64Array(shared(8))), "UNSUPPORTED_DTYPE", /^dtype: .* f64 \(reference only\)/);
  });

  test("map() gives the memory of a tensor", async () => {
    const x = device().tensor([1, 2, 3, 4]);
    const mapped = await x.map();
    expect(mapped).toEqual(Float32Array.of(1, 2, 3, 4));
    mapped[2] = 30;
    expect(await x.data()).toEqual(Float32Array.of(1, 2, 30, 4));
    expect(x.rows(2, 4).mapSync()).toEqual(Float32Array.of(30, 4));
    const again = x.mapSync();
    expect(again).toEqual(mapped);
    const halves = device().tensor([1, 2], [2], "bf16");
    expect(halves.mapSync()).toEqual(Uint16Array.of(0x3f80, 0x4000));
    const source = new Float32Array(shared(16));
    const wrapped = await device().wrap(source).rows(1, 3).map();
    wrapped[0] = 5;
    expect(source[1]).toBe(5);
    x.dispose();
    await expectRejection(x.map(), "DISPOSED", /used after dispose/);
    if (name !== "reference") expect([mapped.length, again.length]).toEqual([0, 0]);
    expect(device().zeros([0, 3], "f32").mapSync()).toEqual(new Float32Array(0));
  });
});

describe.each(onHost.filter((name) => name !== "reference"))("pointers on %s", (name) => {
  const device = openForTests(name);

  test("what is no address is refused", () => {
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    const call = (address: any, options?: any) => device().wrapPointer(address, [2], "f32", options);
    for (const address of [0n, -1n, 2n ** 64n, 4096, null, undefined]) {
      expectError(() => call(address), "INVALID_ARGUMENT", /^address: expected a bigint from 1/);
    }
    expectError(() => call(4097n), "INVALID_ARGUMENT", /^address: expected a multiple of the size of the dtype/);
    expectError(() => call(4096n, { release: 1 }), "INVALID_ARGUMENT", /^release: expected a function/);
    expectError(() => device().wrapPointer(4096n, [2], "f64"), "UNSUPPORTED_DTYPE", /reference only/);
  });

  test("an array that was transferred away is replaced by another", async () => {
    const x = device().tensor([1, 2]);
    const { buffer } = x.mapSync() as { buffer: ArrayBuffer & { transfer?: () => ArrayBuffer } };
    // Node 20, which has no transfer(), gives the other side a copy. Later versions refuse that.
    if (buffer.transfer) expect(buffer.transfer().byteLength).toBe(8);
    else expect(structuredClone(buffer, { transfer: [buffer] }).byteLength).toBe(8);
    expect(await x.map()).toEqual(Float32Array.of(1, 2));
  });

  test("release is called once nothing uses the memory, and never before", async () => {
    let released = 0;
    // Memory that is never touched: a tensor without elements reads none of it.
    const tensor = device().wrapPointer(4096n, [0, 2], "f32", { release: () => released++ });
    const view = tensor.rows(0, 0);
    tensor.dispose();
    await wait(5);
    expect(released).toBe(0);
    view.dispose();
    while (released === 0) await wait(5);
    expect(released).toBe(1);
    await expectRejection(
      device().wrapPointer(4096n, [2], "f32").map(),
      "UNSUPPORTED_OPERATION",
      /^map: .* use raw\(\)$/,
    );
  });
});

describe.each(onHost.filter((name) => name !== "reference"))("DLPack on %s", (name) => {
  const device = openForTests(name);
  const cpu = { deviceType: 1, deviceId: 0 };

  test("tensors of every dtype go out and come back over the same memory", async () => {
    const codes = { f32: [2, 32], f16: [2, 16], bf16: [4, 16], i32: [0, 32], u8: [1, 8] } as const;
    for (const [dtype, [code, bits]] of Object.entries(codes)) {
      using tensor = device().tensor([1, 2, 3, 4, 5, 6], [3, 2], dtype as keyof typeof codes);
      const exported = tensor.rows(1, 3).toDLPack();
      expect(exported).toEqual({
        data: tensor.toDLPack().data + BigInt((2 * bits) / 8),
        device: cpu,
        dtype: { code, bits, lanes: 1 },
        shape: [2, 2],
        strides: [2, 1],
        byteOffset: 0,
      });
      using back = device().fromDLPack(exported);
      expect([back.dtype, back.shape]).toEqual([dtype, [2, 2]]);
      expect([...(await back.data())]).toEqual([3, 4, 5, 6]);
      back.write([7, 8, 9, 10]);
      expect([...(await tensor.data())]).toEqual([1, 2, 7, 8, 9, 10]);
    }
  });

  test("strides may be left out, do not matter for sizes of 1, and offsets count", async () => {
    using tensor = device().tensor([1, 2, 3, 4]);
    const { data, dtype } = tensor.toDLPack();
    const given = { data, device: cpu, dtype };
    for (const rest of [
      { shape: [2] },
      { shape: [2], strides: null, byteOffset: 8 },
      { shape: [1, 2], strides: [77, 1], byteOffset: 4 },
    ]) {
      using back = device().fromDLPack({ ...given, ...rest });
      const first = 1 + (rest.byteOffset ?? 0) / 4;
      expect([...(await back.data())]).toEqual([first, first + 1]);
    }
    let released = 0;
    const release = () => released++;
    device()
      .fromDLPack({ ...given, data: 0n, shape: [0, 3], strides: [9, 9] }, { release })
      .dispose();
    while (released === 0) await wait(5);
    expect(released).toBe(1);
  });

  test("what this device cannot use is refused by name", () => {
    const good = device().tensor([1, 2, 3, 4], [2, 2]).toDLPack();
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    const call = (changes: any) => device().fromDLPack({ ...good, ...changes });
    const wrong: [object, RegExp][] = [
      [
        { device: { deviceType: 2, deviceId: 0 } },
        /^tensor\.device: expected the memory of this device \(deviceType 1, /,
      ],
      [{ device: { deviceType: 1, deviceId: 3 } }, /^tensor\.device: .* got deviceType 1, deviceId 3$/],
      [{ dtype: { code: 2, bits: 32, lanes: 4 } }, /^tensor\.dtype: .* got \(2, 32\) in 4$/],
      [{ dtype: { code: 0, bits: 64, lanes: 1 } }, /^tensor\.dtype: .* f32 \(2, 32\), /],
      [
        { strides: [1, 2] },
        /^tensor\.strides: expected \[2, 1\], elements row after row; copy the tensor first, got \[1, 2\]$/,
      ],
      [{ strides: [2] }, /^tensor\.strides: /],
      [{ strides: [2, 0.5] }, /^tensor\.strides\[1\]: expected an integer/],
      [{ data: 4096 }, /^tensor\.data: expected an address, a bigint/],
      [{ data: 0n }, /^address: expected a bigint from 1/],
      [{ data: 2n ** 64n }, /^tensor\.data: /],
      [{ byteOffset: -4 }, /^tensor\.byteOffset: /],
      [{ data: 2n ** 64n - 4n, byteOffset: 4 }, /^tensor\.byteOffset: expected an address below 2\^64/],
      [{ byteOffset: 2 }, /^address: expected a multiple of the size of the dtype/],
      [{ shape: [-1] }, /^tensor\.shape: /],
    ];
    for (const [changes, message] of wrong) expectError(() => call(changes), "INVALID_ARGUMENT", message);
    expectError(() => call({ dtype: { code: 2, bits: 64, lanes: 1 } }), "UNSUPPORTED_DTYPE", /reference only/);
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    for (const none of [null, undefined, 1, good.data, []] as any[]) {
      expectError(
        () => device().fromDLPack(none),
        "INVALID_ARGUMENT",
        /^tensor: expected an object such as \{ data, device/,
      );
    }
    const disposed = device().tensor([1]);
    disposed.dispose();
    expectError(() => disposed.toDLPack(), "DISPOSED", /used after dispose/);
  });

  test("submitted() resolves when earlier work is in order", async () => {
    using out = device().zeros([2, 4], "f32");
    rmsNorm(device().tensor(new Float32Array(8).fill(2), [2, 4]), device().tensor([1, 1, 1, 1]), {
      epsilon: 1e-30,
      out,
    });
    await device().submitted();
    // These devices do the work when they take it.
    expect(out.mapSync()).toEqual(new Float32Array(8).fill(1));
  });

  test("a CUDA stream is for cuda devices", () => {
    expectError(
      () => openDevice(name, { stream: 1n }),
      "UNSUPPORTED_OPERATION",
      /^stream: expected a cuda device .* got /,
    );
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    for (const stream of [0n, 1, -1n, 2n ** 64n, null, "1"] as any[]) {
      expectError(
        () => openDevice(name, { stream }),
        "INVALID_ARGUMENT",
        /^stream: expected a cudaStream_t other than null/,
      );
    }
  });
});

test("reference has no pointers", () => {
  using reference = openDevice("reference");
  const call = () => reference.wrapPointer(4096n, [2], "f32");
  expectError(call, "UNSUPPORTED_OPERATION", /^wrapPointer: expected a native device/);
  const tensor = reference.tensor([1]);
  expectError(() => tensor.toDLPack(), "UNSUPPORTED_OPERATION", /^toDLPack: expected a native device, got reference$/);
  using cpu = openDevice("cpu");
  const given = cpu.tensor([1]).toDLPack();
  expectError(() => reference.fromDLPack(given), "UNSUPPORTED_OPERATION", /^fromDLPack: expected a native device/);
});
