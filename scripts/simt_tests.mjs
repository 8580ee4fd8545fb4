// Builds the tests of the simt runtime, plain or for a sanitizer; the vitest wrapper and the sanitizer scripts run them.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describeMissingTools, root } from "./build_native.mjs";

/**
 * @param {object} [options]
 * @param {string} [options.folder] build folder, relative to the package.
 * @param {string} [options.sanitize] the compiler's names of sanitizers, such as "thread".
 * @param {"inherit" | "pipe"} [options.output] where the build's output goes; with "pipe" a failure's error has it.
 * @returns {(executable: string, args: string[], env?: NodeJS.ProcessEnv) => { status: number | null, output: string }}
 * runs one of the executables to its end.
 */
export function buildSimtTests({ folder = "build/simt-tests", sanitize = "", output = "pipe" } = {}) {
  const missing = describeMissingTools();
  if (missing) throw new Error(missing);
  const build = join(root, folder);
  const type = sanitize === "" ? "Release" : "RelWithDebInfo";
  cmake([
    ["-S", join(root, "native/simt")],
    ["-B", build],
    [`-DCMAKE_BUILD_TYPE=${type}`, "-DMOE_BUILD_TESTS=ON", `-DMOE_SANITIZE=${sanitize}`],
  ]);
  cmake([
    ["--build", build, "--parallel", "2"],
    ["--target", "moe_simt_tests", "moe_simt_broken_tests"],
  ]);
  return (executable, args, env = {}) => {
    const { status, error, stdout, stderr } = spawnSync(join(build, "test", executable), args, {
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
    if (error) throw error;
    return { status, output: stdout + stderr };
  };

  function cmake(args) {
    const { status, stdout, stderr, error } = spawnSync("cmake", args.flat(), {
      encoding: "utf8",
      stdio: ["ignore", output, output],
    });
    if (error) throw error;
    if (status !== 0) throw new Error(`cmake ${args.flat().join(" ")} failed\n${stdout ?? ""}${stderr ?? ""}`);
  }
}
