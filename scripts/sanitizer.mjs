// The addon and the native tests, built for a sanitizer and run under it; verdicts are printed line by line and counted.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { buildNative, root } from "./build_native.mjs";

const config = "RelWithDebInfo";
let passed = 0;
let failed = 0;

/**
 * @param {object} options
 * @param {string} options.sanitize the compiler's names of the sanitizers, such as "address,undefined".
 * @param {string} options.out build folder, relative to the package.
 * @returns {string} the addon's path.
 */
export function buildSanitized({ sanitize, out }) {
  if (process.platform !== "linux") throw new Error("the sanitizer runs need Linux");
  const failure = buildNative({
    out,
    config,
    defines: { MOE_SANITIZE: sanitize, MOE_BUILD_TESTS: "ON", MOE_SIMT: "ON", MOE_CUDA: "OFF" },
  });
  if (failure) throw new Error(failure);
  return join(root, out, config, "moe_kernels.node");
}

/** The compiler's own copy of a sanitizer runtime: it must be in the process before the addon. */
export function findRuntime(name) {
  const compiler = process.env.CXX ?? "c++";
  const { stdout } = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" });
  const path = stdout?.trim();
  if (!path || path === name) throw new Error(`${compiler} has no ${name}`);
  return path;
}

function run(command, args, env) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env },
  });
  if (error) throw error;
  return { status, output: stdout + stderr };
}

function verdict(name, ok, output) {
  console.log(`${ok ? "pass" : "FAIL"} ${name}`);
  if (ok) passed += 1;
  else failed += 1;
  if (!ok) console.log(output);
}

/** The command ends well and without a report. */
export function expectClean(name, command, args, env) {
  const { status, output } = run(command, args, env);
  verdict(name, status === 0 && !/(ERROR|WARNING): \w+Sanitizer|runtime error: /.test(output), output);
}

/** The sanitizer stops the broken kernel with a report of this kind that names its source. */
export function expectReport(command, kernel, kind, env) {
  const { status, output } = run(command, ["--kernel", kernel], env);
  const reported = status !== 0 && output.includes(kind) && /broken_kernels\.cc:\d+/.test(output);
  verdict(`${kernel} is reported: ${kind}`, reported, output);
}

/** The whole case table on the simt device, for every seed and in both modes of asynchronous copies. */
export function expectCleanCases(binary, seeds, env) {
  for (const seed of seeds) {
    for (const mode of ["late", "early"]) {
      const name = `verify --device simt, seed ${seed}, asynchronous copies ${mode}`;
      expectClean(name, process.execPath, [join(root, "dist/cli/main.js"), "verify", "--device", "simt"], {
        ...env,
        MOE_KERNELS_BINARY: binary,
        MOE_SIMT_SEED: String(seed),
        MOE_SIMT_ASYNC: mode,
      });
    }
  }
}

/** Prints the counts and ends the process, with a failure where there was one. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}
