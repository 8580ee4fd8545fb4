import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { families } from "../../lib/checkpoint/families/registry.js";
import { listKernels } from "../../lib/core/addon/device_libraries.js";
import { loadNative } from "../../lib/core/addon/native.js";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { platformName } from "../../lib/core/addon/platforms.js";
import { listDevices } from "../../lib/devices.js";
import { runScript } from "../support/run_script.js";
import { runCli } from "./support/run_cli.js";

test("info lists every device and why it is or is not available", async () => {
  const { exitCode, stdout } = await runCli(["info"]);
  expect(exitCode).toBe(0);
  for (const { name, available, detail } of listDevices()) {
    const line = stdout.split("\n").find((candidate) => candidate.startsWith(`${available ? "✔" : "✘"} ${name} `));
    expect(line).toContain(detail);
  }
  expect(stdout).toContain(`node ${process.version} on`);
  expect(stdout).toContain(loadNative().cpuInfo().model);
});

test("info says why a build has no cuda device, and what helps", () => {
  const cuda = listDevices().find(({ kind }) => kind === "cuda");
  if (loadNative().buildInfo().cuda !== "") expect(cuda?.detail).not.toContain("moe_kernels_cuda.so");
  else
    expect(cuda?.detail).toMatch(
      /moe_kernels_cuda\.so not found, .+; to get it: npm install .+-cuda, or node .+ --only cuda$/,
    );
});

test("info --json has the same information for programs", async () => {
  const { exitCode, stdout } = await runCli(["info", "--json"]);
  expect(exitCode).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    node: process.version,
    runtime: `node ${process.version}`,
    devices: listDevices(),
    cpu: loadNative().cpuInfo(),
    build: loadNative().buildInfo(),
    problem: null,
  });
});

test.each([
  ["bun", "1.3.0"],
  ["deno", "2.5.0"],
  ["electron", "38.0.0"],
])("info names %s where it runs instead of Node", async (name, version) => {
  vi.stubGlobal("process", Object.create(process, { versions: { value: { ...process.versions, [name]: version } } }));
  try {
    const runtime = `${name} ${version} (as node ${process.version})`;
    expect((await runCli(["info"])).stdout).toContain(`${runtime} on `);
    expect(JSON.parse((await runCli(["info", "--json"])).stdout)).toMatchObject({ node: process.version, runtime });
  } finally {
    vi.unstubAllGlobals();
  }
});

test("info shows the environment variables that are in effect", async () => {
  vi.stubEnv("MOE_KERNELS_DEVICE", "reference");
  try {
    expect((await runCli(["info"])).stdout).toContain("MOE_KERNELS_DEVICE=reference");
    expect(JSON.parse((await runCli(["info", "--json"])).stdout)).toMatchObject({
      environment: { MOE_KERNELS_DEVICE: "reference" },
    });
  } finally {
    vi.unstubAllEnvs();
  }
});

test("info says which instruction sets are not here, and why", async () => {
  const cpu = loadNative().cpuInfo();
  const lines = (stdout: string) => stdout.split("\n").filter((line) => line.startsWith("not here"));
  const real = lines((await runCli(["info"])).stdout);
  expect(real).toEqual(cpu.missingIsas.map(({ isa, reason }) => `not here    ${isa}: ${reason}`));
  const missingIsas = [
    { isa: "amx", reason: "the CPU has no AMX" },
    { isa: "avx2", reason: "the CPU lacks AVX2" },
  ];
  const spy = vi.spyOn(loadNative(), "cpuInfo").mockReturnValue({ ...cpu, missingIsas });
  try {
    const printed = lines((await runCli(["info"])).stdout);
    expect(printed).toEqual(["not here    amx: the CPU has no AMX", "not here    avx2: the CPU lacks AVX2"]);
    expect(JSON.parse((await runCli(["info", "--json"])).stdout).cpu.missingIsas).toEqual(missingIsas);
  } finally {
    spy.mockRestore();
  }
});

test("info --kernels lists the kernel tables and marks what this machine uses", async () => {
  const kernels = listKernels();
  const isa = loadNative().cpuInfo().isa;
  const used = kernels.filter(({ device, chosen }) => device === "cpu" && chosen !== "");
  for (const dtype of ["f32", "f16", "bf16"]) {
    // In the instruction set in use, every format has one kernel for each dtype of tokens.
    const formats = used.filter(({ chosen }) => chosen.split(", ").includes(dtype)).map(({ format }) => format);
    expect(formats).toEqual(expect.arrayContaining(["f32", "f16", "bf16"]));
    expect(new Set(formats).size).toBe(formats.length);
  }
  expect(used.every(({ name }) => name.startsWith(`${isa} `))).toBe(true);
  const { exitCode, stdout } = await runCli(["info", "--kernels"]);
  expect(exitCode).toBe(0);
  for (const { device, name, chosen } of kernels) {
    const line = stdout.split("\n").find((row) => row.startsWith(device) && row.includes(` ${name} `));
    expect(line?.includes("✔")).toBe(chosen !== "");
  }
  expect(JSON.parse((await runCli(["info", "--kernels", "--json"])).stdout)).toEqual(kernels);
});

test("info --families lists the names that model files may have", async () => {
  const { exitCode, stdout } = await runCli(["info", "--families"]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^model_type in config\.json\n( {2}\S+\n)* {2}qwen3_moe\n/);
  expect(stdout).toMatch(/^general\.architecture in GGUF files\n( {2}\S+\n)* {2}qwen3moe\n/m);
  const { modelTypes, architectures } = JSON.parse((await runCli(["info", "--families", "--json"])).stdout);
  expect(modelTypes).toEqual([...families.keys()].toSorted());
  expect(architectures).toContain("llama");
  const { exitCode: refused, stderr } = await runCli(["info", "--families", "--kernels"]);
  expect(refused).toBe(2);
  expect(stderr).toContain("--kernels cannot be combined with --families");
});

test.each([
  [join("no", "such.node"), "not found"],
  ["package.json", "does not load: "],
])("info names a MOE_KERNELS_BINARY that is wrong, and what helps then: %s", (name, why) => {
  const { status, stdout } = runScript("dist/cli/main.js", ["info", "--json"], { MOE_KERNELS_BINARY: name });
  expect(status).toBe(0);
  const [first, ...others] = (JSON.parse(stdout) as { problem: string }).problem.split("\n");
  const file = join(packageRoot(), name);
  expect(first).toContain(`the native addon that MOE_KERNELS_BINARY names cannot be loaded: ${file} ${why}`);
  const built = `a moe_kernels.node built for ${platformName()} and Node-API 9`;
  expect(others).toEqual([
    "Do one of the following:",
    `  - unset MOE_KERNELS_BINARY, so that the package's own is looked for, or set it to ${built}`,
    '  - use openDevice("reference"), which is slow but needs no addon',
  ]);
});
