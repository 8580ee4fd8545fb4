import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";

const script = "scripts/gpu.mjs";

function program(folder: string, name: string, code: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), `#!/bin/sh\n${code}\n`, { mode: 0o755 });
}

test("goes through every step on simt", () => {
  using directory = temporaryDirectory();
  const addon = process.env.MOE_KERNELS_BINARY ?? join(packageRoot(), "build", "Release", "moe_kernels.node");
  const args = ["--device", "simt", "--quick", "--addon", addon, "--out", directory.path];
  const { status, stdout } = runScript(script, args);
  expect(stdout).toMatch(/^5 steps passed, 0 failed; see .*gpu\.md$/m);
  expect(status).toBe(0);
  const { machine, steps } = JSON.parse(readFileSync(join(directory.path, "gpu.json"), "utf8"));
  expect(machine.device).toBe("simt");
  const [verify, f32, bf16, benchmarks, hopper] = steps as { name: string; output: string }[];
  expect(verify?.output).toMatch(/simt: \d+ cases in .*✔ passed/);
  for (const golden of [f32, bf16]) {
    for (const name of ["norm", "nonorm"]) {
      expect(golden?.output).toMatch(new RegExp(`^pass qwen3_moe_${name}/qwen3_moe_${name}_t1\\.safetensors$`, "m"));
    }
  }
  for (const name of ["layer", "gating", "groupedGemm down", "combine"]) {
    for (const step of [benchmarks, hopper]) expect(step?.output).toMatch(new RegExp(`^${name} +8 +\\d`, "m"));
  }
  expect(readFileSync(join(directory.path, "gpu.md"), "utf8")).toMatch(/^\| benchmarks \| pass \|/m);
});

test("a step that fails is reported with its output and fails the run", () => {
  using directory = temporaryDirectory();
  const args = ["--device", "simt", "--quick", "--addon", "no-such.node", "--out", directory.path];
  const { status, stdout } = runScript(script, args);
  expect(status).toBe(1);
  expect(stdout).toMatch(/^0 steps passed, 5 failed/m);
  expect(readFileSync(join(directory.path, "gpu.md"), "utf8")).toMatch(/NOT_BUILT: .*no-such\.node/);
});

test("the time limit begins after the build", () => {
  using directory = temporaryDirectory();
  program(directory.path, "cmake", "sleep 1");
  const args = ["--device", "simt", "--quick", "--minutes", "0.005", "--out", join(directory.path, "out")];
  const { stdout } = runScript(script, args, { PATH: `${directory.path}${delimiter}${process.env.PATH}` });
  expect(stdout).toMatch(/^pass build/m);
  const { steps } = JSON.parse(readFileSync(join(directory.path, "out", "gpu.json"), "utf8"));
  expect(steps[1]).toMatchObject({ name: "verify", output: expect.not.stringContaining("not started") });
});

describe("the machine", () => {
  /** What is reported where these are the only programs. */
  const describeMachine = (programs: Readonly<Record<string, string>>) => {
    using directory = temporaryDirectory();
    for (const [name, code] of Object.entries(programs)) program(directory.path, name, code);
    const expression =
      'import { describeMachine } from "./scripts/gpu/machine.mjs"; console.log(JSON.stringify(describeMachine("cuda")))';
    const args = ["--input-type=module", "--eval", expression];
    const env = { PATH: directory.path, CUDA_HOME: directory.path };
    return JSON.parse(spawnSync(process.execPath, args, { cwd: packageRoot(), encoding: "utf8", env }).stdout);
  };
  const nvcc = (release: string, codes: string) =>
    `case $1 in --version) echo "Cuda compilation tools, release ${release}, V${release}.1";; --list-gpu-code) printf '%s\\n' ${codes};; esac`;
  const list = (...cards: readonly string[]) =>
    cards.map((card) => `echo "${card}, 1000 MiB, 1 MHz, 1 MHz, 1 MHz, 1 W"`).join("\n");

  test("has every card, and is built for all that can run the kernels", () => {
    const machine = describeMachine({
      nvcc: nvcc("12.8", "sm_80 sm_89 sm_90 sm_120"),
      "nvidia-smi": list("A, 580.1, 8.9", "B, 580.1, 9.0", "C, 580.1, 7.5", "D, 580.1, 8.9", "E, 580.1, 12.0"),
    });
    expect(machine).not.toHaveProperty("warning");
    expect(machine).toMatchObject({ nvcc: "12.8", architectures: ["89-real", "90a-real", "120-real"] });
    expect(machine.cards.map(({ name }: { name: string }) => name)).toEqual(["A", "B", "C", "D", "E"]);
  });

  test("is built as usual for cards that nvcc does not know, which leaves them to the driver", () => {
    const machine = describeMachine({
      nvcc: nvcc("12.4", "sm_80 sm_89 sm_90"),
      "nvidia-smi": list("A, 580.1, 8.9", "B, 580.1, 10.0"),
    });
    expect(machine.cards).toHaveLength(2);
    expect(machine).not.toHaveProperty("architectures");
  });

  test.each([
    ["13.0", "575.57.08", "driver 575.57.08 does not run what CUDA 13.0 builds, which needs 580 or later: install"],
    ["12.8", "515.1", "driver 515.1 does not run what CUDA 12.8 builds, which needs 525 or later: install"],
    ["12.8", "535.1", undefined],
    ["14.0", "535.1", undefined],
  ])("warns of CUDA %s on driver %s before anything is built: %s", (release, driver, warning) => {
    const machine = describeMachine({ nvcc: nvcc(release, "sm_90"), "nvidia-smi": list(`A, ${driver}, 9.0`) });
    if (warning === undefined) expect(machine).not.toHaveProperty("warning");
    else expect(machine.warning).toMatch(warning);
  });

  test("compute-sanitizer is found beside an nvcc that is not on the PATH", () => {
    using directory = temporaryDirectory();
    const [bin, other] = [join(directory.path, "cuda", "bin"), join(directory.path, "other")];
    program(bin, "nvcc", "exit 1");
    const expression = 'import { findSanitizer } from "./scripts/gpu/machine.mjs"; console.log(findSanitizer())';
    const find = (PATH: string) => {
      const env = { PATH, CUDA_HOME: join(directory.path, "cuda") };
      const args = ["--input-type=module", "--eval", expression];
      return spawnSync(process.execPath, args, { cwd: packageRoot(), encoding: "utf8", env }).stdout.trim();
    };
    expect(find(other)).toBe("undefined");
    program(bin, "compute-sanitizer", "exit 0");
    expect(find(other)).toBe(join(bin, "compute-sanitizer"));
    program(other, "compute-sanitizer", "exit 0");
    expect(find(other)).toBe(join(other, "compute-sanitizer"));
  });

  test("without nvidia-smi, or with one that does not know the compute capability", () => {
    expect(describeMachine({})).toMatchObject({ nvcc: "none", cards: "nvidia-smi was not found" });
    const old = `echo 'Field "compute_cap" is not a valid field to query.'; exit 2`;
    const machine = describeMachine({ "nvidia-smi": old });
    expect(machine.cards).toBe('nvidia-smi failed: Field "compute_cap" is not a valid field to query.');
    expect(machine).not.toHaveProperty("architectures");
  });

  test("the build is asked for cuda and all its cards, on tools that are looked at anew", () => {
    using directory = temporaryDirectory();
    const [bin, out] = [join(directory.path, "bin"), join(directory.path, "out")];
    program(bin, "nvidia-smi", list("A, 580.1, 8.0", "B, 580.1, 9.0"));
    program(bin, "nvcc", nvcc("13.0", "sm_80 sm_90"));
    program(bin, "cmake", 'echo "$@" >&2; exit 1');
    const cache = join(out, "cuda", "CMakeCache.txt");
    mkdirSync(dirname(cache), { recursive: true });
    writeFileSync(cache, "CMAKE_CUDA_COMPILER:FILEPATH=NOTFOUND\n");
    const { status, stderr } = runScript(script, ["--out", out], {
      PATH: `${bin}${delimiter}${process.env.PATH}`,
      CUDACXX: "",
    });
    expect(status).toBe(1);
    expect(stderr).toContain("-DMOE_CUDA=ON -DMOE_CUDA_ARCHITECTURES=80-real;90a-real");
    expect(existsSync(cache)).toBe(false);
    const report = readFileSync(join(out, "gpu.md"), "utf8");
    expect(report).toMatch(/^\| nvidia-smi's GPU 1, name \| B \|$/m);
    expect(report).toMatch(/^\| architectures \| 80-real, 90a-real \|$/m);
  });
});

test.each([
  [["--device", "tpu"], /^--device: expected cuda or simt, got tpu\n/],
  [["--minutes", "0"], /^--minutes: expected a number > 0, got 0\n/],
])("%j is a wrong command line", (args, message) => {
  expect(runScript(script, args)).toMatchObject({ status: 2, stdout: "", stderr: expect.stringMatching(message) });
});
