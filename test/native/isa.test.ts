import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { loadNative, type NativeBinding } from "../../lib/core/addon/native.js";
import { listDevices, openDevice } from "../../lib/devices.js";
import { isas, withIsa } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { needs } from "../support/requirements.js";

/** The instruction sets of this processor's builds beside portable code and models of instructions, best first. */
const known: readonly string[] =
  process.arch === "arm64"
    ? ["neon_dotprod", "neon"]
    : ["amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2_vnni", "avx2"];
/** The models that builds for tests have. */
const models: readonly string[] = process.arch === "arm64" ? ["amx_model"] : ["avx2_vnni_model", "amx_model"];
/** Those that multiply float tokens by integer codes as digits. */
const ofDigits = ["avx512_vnni", "avx512_bf16", "avx2_vnni", "avx2_vnni_model", "neon_dotprod"];

/** The names of features in /proc/cpuinfo. */
const flags: Readonly<Record<string, string>> = {
  ...{ AVX2: "avx2", BMI: "bmi1", FMA: "fma", F16C: "f16c", "AVX-VNNI": "avx_vnni" },
  ...{ "AVX-512 F": "avx512f", "AVX-512 BW": "avx512bw", "AVX-512 DQ": "avx512dq", "AVX-512 VL": "avx512vl" },
  ...{ "AVX-512 VNNI": "avx512_vnni", "AVX-512 VBMI": "avx512vbmi", "AVX-512 BF16": "avx512_bf16" },
  DotProd: "asimddp",
};

const cpu = () => listDevices().find(({ name }) => name === "cpu");

describe("MOE_CPU_ISA", () => {
  test("lists known names; portable, and behind it only models that tests build, runs everywhere", () => {
    const available = models.filter((model) => model === "amx_model" || isas.includes("avx2"));
    expect(isas.slice(isas.indexOf("portable"))).toEqual(["portable", ...available]);
    expect(new Set(isas).size).toBe(isas.length);
    for (const isa of isas.slice(0, isas.indexOf("portable"))) expect(known).toContain(isa);
  });

  test("an instruction set is either available or missing for a reason", () => {
    const { missingIsas } = loadNative().cpuInfo();
    const all = [...isas, ...missingIsas.map(({ isa }) => isa)];
    expect(all.toSorted()).toEqual([...known, ...models, "portable"].toSorted());
    for (const { isa, reason } of missingIsas) {
      expect(reason).toMatch(
        isa === "amx" ? /^(th(e CPU|e kernel|is build) |tile registers )/ : /^th(e CPU|is build) lacks \w/,
      );
    }
  });

  test("what the CPU lacks is what it does not report", needs("Linux"), () => {
    const reported =
      /^(?:flags|Features)\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
    for (const { reason } of loadNative().cpuInfo().missingIsas) {
      const [, named = ""] = /^the CPU lacks (.*)$/.exec(reason) ?? [];
      for (const feature of named.split(", ").filter((name) => name !== "")) {
        expect(Object.keys(flags)).toContain(feature);
        expect(reported).not.toContain(flags[feature]);
      }
    }
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

describe.each(isas)("the kernel of a product with %s", (isa) => {
  const kernelOf = (...product: Parameters<NativeBinding["productKernel"]>) =>
    withIsa(isa, () => loadNative().productKernel(...product));
  const tiles = isa.startsWith("amx");

  test("has a peak that is measured, of which parts of numbers take shares", () => {
    const bf16 = tiles || isa === "avx512_bf16" ? "bf16" : "fma";
    expect(kernelOf("bf16", "none", "bf16")).toMatchObject({ peak: bf16, products: 1 });
    const [f16, f32] = [kernelOf("f16", "none", "bf16"), kernelOf("f32", "none", "bf16")];
    expect(f16).toMatchObject(tiles ? { peak: "bf16", products: 2 } : { peak: "fma", products: 1 });
    expect(f32).toMatchObject(tiles ? { peak: "bf16", products: 3 } : { peak: "fma", products: 1 });
    for (const format of ["i4_g32_bf16", "i8_g32_f16", "q6_k", "nvfp4"]) {
      expect(kernelOf("f32", "int8", format)).toMatchObject({ peak: "int8", products: 1 });
      const floats = tiles ? { peak: "bf16", products: 3 } : { peak: "fma", products: 1 };
      const digits = { peak: "int8", products: 3 };
      const hasDigits = ofDigits.includes(isa);
      expect(kernelOf("f32", "none", format)).toMatchObject(hasDigits ? digits : floats);
      const pairs = { peak: "bf16", products: 1 };
      const bf16 = isa === "avx512_bf16" || tiles ? pairs : hasDigits ? digits : floats;
      expect(kernelOf("bf16", "none", format)).toMatchObject(bf16);
    }
    // Digits of tokens need long groups, or scales of their own below others.
    for (const format of ["i4_g16_f16", "e4m3_b128_f32"]) {
      expect(kernelOf("f32", "none", format).peak).not.toBe("int8");
    }
    // Plain weights multiply tokens as they are; e4m3 has no products of bytes.
    expect(kernelOf("f32", "int8", "f32")).toEqual(kernelOf("f32", "none", "f32"));
    expect(kernelOf("f32", "int8", "e4m3_b128_f32").peak).not.toBe("int8");
  });

  test("is that which the kernel tables say is used", () => {
    const rows = withIsa(isa, () => loadNative().kernels());
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const format of ["f32", "f16", "bf16"] as const) {
        const used = rows.filter((row) => row.format === format && row.chosen.split(", ").includes(dtype));
        expect(used.map(({ name }) => name)).toContain(kernelOf(dtype, "none", format).name);
      }
    }
  });
});

test("a product that the device has no kernel for", () => {
  const { productKernel } = loadNative();
  expectError(() => productKernel("i32" as "f32", "none", "bf16"), "UNSUPPORTED_DTYPE", /no kernel .* i32 .* bf16$/);
  expectError(() => productKernel("f32", "none", "i9"), "UNSUPPORTED_DTYPE", /"i9"/);
  expectError(() => productKernel("f32", "int9" as "int8", "bf16"), "INVALID_ARGUMENT", /^tokenFormat: .*"int9"/);
});

test("ceilings of the instruction set in use", async () => {
  const ceilings = await loadNative().ceilings(1, 0.01);
  const { peak } = loadNative().productKernel("bf16", "none", "bf16");
  for (const rate of [ceilings.fmaGflops, ceilings.int8Gops, ceilings.readGBs]) expect(rate).toBeGreaterThan(0);
  if (peak === "bf16") expect(ceilings.bf16Gflops).toBeGreaterThan(0);
});
