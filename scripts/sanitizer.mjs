// The addon and the native tests, built for a sanitizer and run under it; verdicts are printed line by line and counted.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildNative, root } from "./build_native.mjs";

const config = "RelWithDebInfo";

/** Where a build in `out`, relative to the package, puts the addon. */
export function addonIn(out) {
  return join(root, out, config, "moe_kernels.node");
}

/** Builds the addon and the native tests in `out` for sanitizers by the compiler's names, such as "address,undefined". */
export function buildSanitized({ sanitize, out }) {
  if (process.platform !== "linux") throw new Error("the sanitizer runs need Linux");
  const failure = buildNative({
    out,
    config,
    defines: { MOE_SANITIZE: sanitize, MOE_BUILD_TESTS: "ON", MOE_SIMT: "ON", MOE_CUDA: "OFF" },
  });
  if (failure) throw new Error(failure);
}

/** The compiler's own copy of a sanitizer runtime: it must be in the process before the addon. */
export function findRuntime(name) {
  const compiler = process.env.CXX ?? "c++";
  const { stdout } = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" });
  const path = stdout?.trim();
  if (!path || path === name) throw new Error(`${compiler} has no ${name}`);
  return path;
}

/** A step: the command ends well and without a report. `env` is a function: what it finds may need a compiler. */
export function clean(name, command, args = [], env = () => ({})) {
  const passes = ({ status, output }) => status === 0 && !/(ERROR|WARNING): \w+Sanitizer|runtime error: /.test(output);
  return { name, command, args, env, passes };
}

/** A step: the sanitizer stops the broken kernel with a report of this kind that names its source. */
export function report(command, kernel, kind, env = () => ({})) {
  const passes = ({ status, output }) => status !== 0 && output.includes(kind) && /broken_kernels\.cc:\d+/.test(output);
  return { name: `${kernel} is reported: ${kind}`, command, args: ["--kernel", kernel], env, passes };
}

/** Steps: the whole case table on the simt device, for every seed and in both modes of asynchronous copies. */
export function cleanCases(out, seeds, env) {
  const args = [join(root, "dist/cli/main.js"), "verify", "--device", "simt"];
  return seeds.flatMap((seed) =>
    ["late", "early"].map((mode) =>
      clean(`verify --device simt, seed ${seed}, asynchronous copies ${mode}`, process.execPath, args, () => ({
        ...env(),
        MOE_KERNELS_BINARY: addonIn(out),
        MOE_SIMT_SEED: String(seed),
        MOE_SIMT_ASYNC: mode,
      })),
    ),
  );
}

/** The options of a sanitizer script and what is behind them; `--help` and an unknown option end the process. */
export function parseOptions(usage, options = {}) {
  try {
    const { values, positionals } = parseArgs({
      options: { help: { type: "boolean", short: "h" }, list: { type: "boolean" } },
      allowPositionals: options.positionals ?? false,
    });
    if (!values.help) return { list: values.list === true, positionals };
    console.log(usage);
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    process.exit(2);
  }
  process.exit(0);
}

/** Builds, runs all steps, prints a verdict for each and ends the process, with a failure where there was one. */
export function runSteps({ usage, sanitize, out, steps }) {
  if (parseOptions(usage).list) {
    for (const { name } of steps) console.log(name);
    return;
  }
  buildSanitized({ sanitize, out });
  let failed = 0;
  for (const { name, command, args, env, passes } of steps) {
    const { status, error, stdout, stderr } = spawnSync(command, args, {
      encoding: "utf8",
      maxBuffer: 2 ** 28,
      env: { ...process.env, ...env() },
    });
    if (error) throw error;
    const output = stdout + stderr;
    const passed = passes({ status, output });
    console.log(`${passed ? "pass" : "FAIL"} ${name}`);
    if (passed) continue;
    console.log(output);
    failed += 1;
  }
  console.log(`${steps.length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}
