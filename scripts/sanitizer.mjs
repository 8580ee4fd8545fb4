// Builds the addon and the native tests with a sanitizer, and runs steps under it.
import { spawnSync } from "node:child_process";
import { buildNative } from "./build_native.mjs";
import { addonIn, listSteps, parseOptions, runSteps, verifySteps } from "./steps.mjs";

/** The build type of sanitized builds. */
export const config = "RelWithDebInfo";

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

/** A step that passes if the sanitizer stops the broken kernel with a report of this kind that names its source. */
export function report(command, kernel, kind, env = () => ({})) {
  const passes = ({ status, output }) => status !== 0 && output.includes(kind) && /broken_kernels\.cc:\d+/.test(output);
  return { name: `${kernel} is reported: ${kind}`, command, args: ["--kernel", kernel], env, passes };
}

/** Steps that run the whole case table on the simt device, for every seed; it also draws which asynchronous copies are late. */
export function cleanCases(out, seeds, env) {
  const verify = ["--device", "simt"];
  const runs = [
    { args: verify, set: {} },
    // Products that Hopper has kernels of its own for.
    ...["bf16 x bf16", "f16 x f16"].map((filter) => ({
      args: [...verify, "--filter", filter],
      set: { MOE_GPU_CAPABILITY: "90" },
    })),
  ];
  const drawn = (seed, { args, set }) => ({
    args,
    set: { MOE_SIMT_SEED: String(seed), MOE_SIMT_ASYNC: "mixed", ...set },
  });
  const all = seeds.flatMap((seed) => runs.map((run) => drawn(seed, run)));
  return verifySteps(addonIn(out, config), all, env);
}

/** Builds with a sanitizer and runs all steps under it; `--list` only prints them. */
export async function runSanitized({ usage, sanitize, out, steps }) {
  if (parseOptions(usage).list) return listSteps(steps);
  buildSanitized({ sanitize, out });
  await runSteps(steps);
}
