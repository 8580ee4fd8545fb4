import { afterEach, describe, expect, test, vi } from "vitest";
import { type DeviceInfo, loadNative } from "../../lib/core/addon/native.js";
import { deviceKinds } from "../../lib/core/device/backend.js";
import { MoeError } from "../../lib/core/errors.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { type DeviceName, listDevices, openDevice } from "../../lib/devices.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { sort } from "../../lib/operators/routing/sort.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

describe("listDevices and openDevice", () => {
  const { MOE_KERNELS_DEVICE: before } = process.env;

  afterEach(() => {
    if (before === undefined) delete process.env.MOE_KERNELS_DEVICE;
    else process.env.MOE_KERNELS_DEVICE = before;
  });

  test("every kind is listed, with its description or why it is unavailable", () => {
    const devices = listDevices();
    for (const kind of deviceKinds) expect(devices.map((device) => device.kind)).toContain(kind);
    for (const device of devices) expect(device.detail).not.toBe("");
    expect(devices.filter((device) => device.available).map((device) => device.name)).toEqual(
      expect.arrayContaining(["reference", "cpu"]),
    );
  });

  test("a listed device that is not available says why when it is opened", () => {
    for (const device of listDevices().filter(({ available }) => !available)) {
      expectError(() => openDevice(device.name as DeviceName), "DEVICE_UNAVAILABLE", /./);
    }
  });

  test("auto takes the first CUDA device, otherwise the CPU, and says why", () => {
    delete process.env.MOE_KERNELS_DEVICE;
    using device = openDevice();
    const cuda = listDevices().find(({ kind, available }) => kind === "cuda" && available);
    expect(device.kind).toBe(cuda ? "cuda" : "cpu");
    expect(device.reason).not.toBe("");
  });

  describe("auto with GPUs", () => {
    const gpu = (index: number, available: boolean, detail: string) =>
      ({ name: `cuda:${index}`, kind: "cuda", available, detail }) as const;

    /** Opens `auto` where a build lists these GPUs, and the addon answers for them as `answers` says. */
    const openAuto = (gpus: DeviceInfo[], answers: Record<string, MoeError>, options = {}) => {
      delete process.env.MOE_KERNELS_DEVICE;
      const native = loadNative();
      const open = native.open.bind(native);
      const spies = [
        vi.spyOn(native, "devices").mockReturnValue(gpus),
        vi.spyOn(native, "open").mockImplementation((name, given) => {
          if (answers[name]) throw answers[name];
          return open("cpu", { ...given, stream: undefined });
        }),
      ];
      try {
        using device = openDevice("auto", options);
        return { name: device.name, reason: device.reason };
      } finally {
        for (const spy of spies) spy.mockRestore();
      }
    };
    const old = gpu(0, false, "cuda:0: Quadro has compute capability 7.5, the kernels need 8.0 or later");
    const fine = gpu(1, true, "H100, compute capability 9.0");
    const unusable = new MoeError(
      "DEVICE_UNAVAILABLE",
      "cuda:1: H100, cannot be used: cudaErrorNoKernelImageForDevice",
    );

    test("the first that is available", () => {
      expect(openAuto([old, fine], {})).toEqual({ name: "cuda:1", reason: `${fine.detail}; not ${old.detail}` });
    });

    test("one that cannot be used is passed over", () => {
      const second = gpu(2, true, "A100");
      expect(openAuto([fine, second], { "cuda:1": unusable })).toEqual({
        name: "cuda:2",
        reason: `A100; not ${unusable.message}`,
      });
    });

    test("the CPU if none can be used", () => {
      const reason = `no CUDA device: ${old.detail}; ${unusable.message}`;
      expect(openAuto([old, fine], { "cuda:1": unusable })).toEqual({ name: "cpu", reason });
      expectError(
        () => openAuto([old, fine], { "cuda:1": unusable }, { stream: 5n }),
        "UNSUPPORTED_OPERATION",
        /^stream: expected a cuda device to work on a CUDA stream, got cpu \(no CUDA device: cuda:0: Quadro .*; cuda:1: /,
      );
    });

    test("other errors are not hidden", () => {
      const wrong = new MoeError("INVALID_ARGUMENT", "stream: expected a CUDA stream of cuda:1, got another");
      expectError(() => openAuto([fine], { "cuda:1": wrong }), "INVALID_ARGUMENT", /^stream: /);
    });
  });

  test("MOE_KERNELS_DEVICE decides for auto", () => {
    process.env.MOE_KERNELS_DEVICE = "reference";
    using device = openDevice("auto");
    expect(device.kind).toBe("reference");
    expect(device.reason).toBe("MOE_KERNELS_DEVICE=reference");
  });

  test("bad names and options", () => {
    for (const name of ["gpu", "cuda:", "cuda:x", "CPU", "reference "]) {
      expectError(() => openDevice(name as DeviceName), "INVALID_ARGUMENT", /name: expected "auto", "cpu".*got "/);
    }
    expectError(
      () => openDevice(3 as unknown as DeviceName),
      "INVALID_ARGUMENT",
      /name: expected a device name, got 3/,
    );
    for (const threads of [0, -1, 1.5, Number.NaN, 5000]) {
      expectError(
        () => openDevice("reference", { threads }),
        "INVALID_ARGUMENT",
        /threads: expected an integer from 1/,
      );
    }
  });

  test("options that do not exist, or are of another type", () => {
    const bad = (options: object, message: RegExp) => {
      for (const name of ["auto", "cpu", "simt", "reference"] as const) {
        expectError(() => openDevice(name, options), "INVALID_ARGUMENT", message);
      }
    };
    bad({ thread: 1 }, /^options: there is no option "thread"; did you mean "threads"\?$/);
    bad({ poison: "no" }, /^poison: expected a boolean, got "no"$/);
  });

  test("an unknown name in MOE_KERNELS_DEVICE, which the error names", () => {
    process.env.MOE_KERNELS_DEVICE = "gpu";
    expectError(() => openDevice(), "INVALID_ARGUMENT", /^MOE_KERNELS_DEVICE: expected "auto", "cpu", .*got "gpu"$/);
    expectError(() => openDevice("gpu" as never), "INVALID_ARGUMENT", /^name: expected "auto", "cpu"/);
  });

  test("a GPU number that does not exist", () => {
    for (const number of ["99", "2147483648", "99999999999", "9".repeat(40)]) {
      expectError(() => openDevice(`cuda:${number}` as DeviceName), "DEVICE_UNAVAILABLE", /^cuda/);
      process.env.MOE_KERNELS_DEVICE = `cuda:${number}`;
      expectError(() => openDevice(), "DEVICE_UNAVAILABLE", /^cuda/);
    }
  });
});

describe.each(deviceNames)("device %s", (name) => {
  const device = openForTests(name);

  test("describes itself", () => {
    expect(device().name).toBe(name);
    expect(name.startsWith(device().kind)).toBe(true);
    expect(device().description).not.toBe("");
    expect(device().reason).toBe("");
  });

  test("several can be open at once", async () => {
    using first = openDevice(name);
    using second = openDevice(name);
    const tensors = [first, second].map((opened, index) => opened.tensor([index]));
    expect(await Promise.all(tensors.map((tensor) => tensor.toArray()))).toEqual([[0], [1]]);
  });

  test("use after dispose() is an error; dispose() again is not", () => {
    const opened = openDevice(name);
    const tensor = opened.tensor([1]);
    opened.dispose();
    opened.dispose();
    expect(opened.disposed).toBe(true);
    expectError(() => opened.tensor([1]), "DISPOSED", /device .*: used after dispose\(\) or close\(\)$/);
    expectError(() => opened.synchronizeSync(), "DISPOSED", /device/);
    expectError(() => opened.warnings, "DISPOSED", /device/);
    expect(tensor.disposed).toBe(true);
    expectError(() => tensor.dataSync(), "DISPOSED", /device/);
    expectError(() => sort(tensor as never, { numExperts: 1 }), "DISPOSED", /device/);
    tensor.dispose();
  });

  /** Opens a device and gives it far more work than can be done while a test enqueues it. */
  const busyDevice = () => {
    const opened = openDevice(name);
    const [x, weight] = [opened.zeros([128, 1024], "f32"), opened.zeros([128, 1024], "f32")];
    const results = Array.from({ length: name === "cpu" ? 50 : 3 }, () => routerProjection(x, weight));
    return { opened, last: results.at(-1) as Tensor<"f32"> };
  };

  test("dispose() drops work that has not begun: promises that wait for it reject with DISPOSED", async () => {
    const { opened, last } = busyDevice();
    const pending = [last.data(), last.raw(), opened.synchronize()];
    opened.dispose();
    const outcomes = await Promise.allSettled(pending);
    // reference computes during the call, and a GPU may be done before the next one.
    const mayBeDone = name === "reference" || name.startsWith("cuda");
    const dropped = { code: "DISPOSED", message: expect.stringMatching(/^device: disposed/) };
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled") expect(mayBeDone).toBe(true);
      else expect(outcome.reason).toMatchObject(dropped);
    }
    await opened.close();
  });

  test("close() finishes the work in flight, and takes no more", async () => {
    const { opened, last } = busyDevice();
    const order: string[] = [];
    const data = last.data().then((values) => order.push(`data ${values.every((value) => value === 0)}`));
    const closed = opened.close().then(() => order.push("closed"));
    expect(opened.disposed).toBe(true);
    expectError(() => opened.tensor([1]), "DISPOSED", /device .*: used after dispose\(\) or close\(\)$/);
    expectError(() => last.dataSync(), "DISPOSED", /device/);
    opened.dispose();
    await Promise.all([data, closed, opened.close()]);
    // On reference both are done when the calls return.
    expect(name === "reference" ? order.sort().reverse() : order).toEqual(["data true", "closed"]);
    await opened[Symbol.asyncDispose]();
  });

  test("close() reports an error that nobody has waited for", async () => {
    const opened = openDevice(name);
    sort(opened.tensor(Int32Array.of(7), [1, 1]), { numExperts: 3 });
    const closed = opened.close();
    await expectRejection(closed, "ID_OUT_OF_RANGE", /got 7/);
    await expectRejection(opened.close(), "ID_OUT_OF_RANGE", /got 7/);
    expect(opened.disposed).toBe(true);
  });

  test("tensors disposed of right after the call keep their memory until the work is done", async () => {
    const results = [];
    for (let run = 0; run < 50; run++) {
      using logits = device().tensor(
        Float32Array.from({ length: 64 * 16 }, (_, index) => (index * 7 + run) % 16),
        [64, 16],
      );
      const { ids, weights } = gating(logits, { topK: 1 });
      weights.dispose();
      results.push({ ids, run });
    }
    for (const { ids, run } of results) {
      const expected = Array.from({ length: 64 }, (_, token) => {
        const row = Array.from({ length: 16 }, (_, expert) => ((token * 16 + expert) * 7 + run) % 16);
        return row.indexOf(Math.max(...row));
      });
      expect([...(await ids.data())]).toEqual(expected);
      ids.dispose();
    }
  });

  describe("errors found in the data", () => {
    /** Enqueues a sort in which `id` is out of range. */
    const badSort = (id: number) => {
      using ids = device().tensor(Int32Array.of(0, 1, id, 2), [2, 2]);
      return sort(ids, { numExperts: 3 });
    };

    test("are reported by the next wait, once", async () => {
      badSort(3);
      await expectRejection(
        device().synchronize(),
        "ID_OUT_OF_RANGE",
        /sort: ids\[1, 0\]: expected -1 or an expert from 0 to 2, got 3/,
      );
      await device().synchronize();
      badSort(4);
      expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", /got 4/);
      device().synchronizeSync();
    });

    test("are also reported by a read of any tensor", async () => {
      using other = device().tensor([1]);
      const { rowOfSlot } = badSort(-2);
      await expectRejection(rowOfSlot.data(), "ID_OUT_OF_RANGE", /got -2/);
      expect([...(await rowOfSlot.data())]).toEqual([0, 1, -1, 2]);
      badSort(7);
      expectError(() => other.dataSync(), "ID_OUT_OF_RANGE", /got 7/);
      expect([...other.dataSync()]).toEqual([1]);
    });

    test("the first one wins", () => {
      badSort(8);
      badSort(9);
      expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", /got 8/);
      device().synchronizeSync();
    });
  });

  test("counts warnings only upwards", async () => {
    const before = device().warnings.nonFiniteLogitRows;
    using logits = device().tensor([[Number.NaN], [1]]);
    gating(logits, { topK: 1 });
    await device().synchronize();
    expect(device().warnings.nonFiniteLogitRows).toBe(before + 1);
  });
});
