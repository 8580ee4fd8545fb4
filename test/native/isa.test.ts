import { describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/native.js";
import { listDevices, openDevice } from "../../lib/devices.js";
import { isas, withIsa } from "../support/devices.js";
import { expectError } from "../support/errors.js";

const cpu = () => listDevices().find(({ name }) => name === "cpu");

describe("MOE_CPU_ISA", () => {
  test("lists known names; portable, and behind it only the model of AMX that tests build, run everywhere", () => {
    expect(isas.slice(-2)).toEqual(["portable", "amx_model"]);
    expect(new Set(isas).size).toBe(isas.length);
    const others = isas.slice(0, -2);
    for (const isa of others) expect(["amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2"]).toContain(isa);
  });

  test.each(isas)("%s: devices opened with it use it and say so", (isa) => {
    withIsa(isa, () => {
      expect(loadNative().cpuInfo()).toMatchObject({ isa, isas });
      expect(cpu()).toMatchObject({ available: true, detail: expect.stringMatching(new RegExp(`, ${isa}$`)) });
      using device = openDevice("cpu", { threads: 1 });
      expect(device.description).toContain(`, ${isa}, 1 thread`);
    });
  });

  test("empty: the best one", () => {
    withIsa("", () => {
      expect(loadNative().cpuInfo().isa).toBe(isas[0]);
      using device = openDevice("cpu");
      expect(device.description).toContain(`, ${isas[0]}, `);
    });
  });

  test.each(["avx1024", "AVX2", " portable", "avx2,portable"])("%j: an error that lists the available ones", (isa) => {
    const message = `MOE_CPU_ISA: expected one of ${isas.join(", ")} on this CPU, got "${isa}"`;
    withIsa(isa, () => {
      expectError(() => openDevice("cpu"), "DEVICE_UNAVAILABLE", new RegExp(`^${message}$`));
      expectError(() => loadNative().cpuInfo(), "DEVICE_UNAVAILABLE", new RegExp(`^${message}$`));
      expect(cpu()).toMatchObject({ available: false, detail: message });
    });
  });
});
