// Builds the addon and the native tests with a sanitizer, runs steps under it, and prints and counts their verdicts.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { buildNative, root } from "./build_native.mjs";
import { readOptions } from "./options.mjs";

const config = "RelWithDebInfo";

/** The path of the addon built in `out`, a folder relative to the package. */
export function addonIn(out) {
  return join(root, out, config, "moe_kernels.node");
}

/** Builds the addon and the native tests in `out`, with sanitizers named as for the compiler ("address,undefined"). */
export function buildSanitized({ sanitize, out }) {
  if (process.platform !== "linux") throw new Error("the sanitizer runs need Linux");
  const failure = buildNative({
    out,
    config,
    defines: { MOE_SANITIZE: sanitize, MOE_BUILD_TESTS: "ON", MOE_SIMT: "ON", MOE_CUDA: "OFF" },
  });
  if (failure) throw new Error(failure);
}

/** The compiler's copy of a sanitizer runtime, which must be loaded before the addon. */
export function findRuntime(name) {
  const compiler = process.env.CXX ?? "c++";
  const { stdout } = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" });
  const path = stdout?.trim();
  if (!path || path === name) throw new Error(`${compiler} has no ${name}`);
  return path;
}

/** A step that passes if the command succeeds without a report. `env` is a function because it may need a compiler. */
export function clean(name, command, args = [], env = () => ({})) {
  const passes = ({ status, output }) => status === 0 && !/(ERROR|WARNING): \w+Sanitizer|runtime error: /.test(output);
  return { name, command, args, env, passes };
}

/** A step that passes if the sanitizer stops the broken kernel with a report of this kind that names its source. */
export function report(command, kernel, kind, env = () => ({})) {
  const passes = ({ status, output }) => status !== 0 && output.includes(kind) && /broken_kernels\.cc:\d+/.test(output);
  return { name: `${kernel} is reported: ${kind}`, command, args: ["--kernel", kernel], env, passes };
}

/** Steps that run the whole case table on the simt device, for every seed; it also draws which asynchronous copies are late. */
export function cleanCases(out, seeds, env) {
  const verify = ["verify", "--device", "simt"];
  const runs = [
    { args: verify, set: {} },
    // Products that Hopper has kernels of its own for.
    ...["bf16 x bf16", "f16 x f16"].map((filter) => ({
      args: [...verify, "--filter", filter],
      set: { MOE_GPU_CAPABILITY: "90" },
    })),
  ];
  return seeds.flatMap((seed) =>
    runs.map(({ args, set }) => {
      const settings = Object.entries({ MOE_SIMT_SEED: String(seed), MOE_SIMT_ASYNC: "mixed", ...set });
      const name = [...settings.map(([key, value]) => `${key}=${value}`), ...args].join(" ");
      return clean(name, process.execPath, [join(root, "dist/cli/main.js"), ...args], () => ({
        ...env(),
        MOE_KERNELS_BINARY: addonIn(out),
        ...Object.fromEntries(settings),
      }));
    }),
  );
}

/** Options and positional arguments of a sanitizer script; `--help` or an unknown option ends the process. */
export function parseOptions(usage, { positionals: allowPositionals = false } = {}) {
  const { values, positionals } = readOptions(usage, { options: { list: { type: "boolean" } }, allowPositionals });
  return { list: values.list === true, positionals };
}

/** Builds, runs all steps and prints a verdict for each; the exit code is 1 if one failed. */
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
