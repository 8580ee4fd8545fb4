// Builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer, then runs the native tests and the tests of
// code that calls the addon. Any report is a failure. Arguments select test files, as for vitest.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build_native.mjs";
import { buildSanitized, config, findRuntime } from "./sanitizer.mjs";
import { addonIn, parseOptions } from "./steps.mjs";

const out = "build-sanitize";
const reports = join(root, out, "reports");

/** Tests that call native code, except those that measure memory: the sanitizer holds on to freed memory. */
const testFiles = [
  "test/core",
  "test/operators",
  "test/layer",
  "test/testing",
  "test/golden",
  "test/checkpoint",
  "test/hostile",
  "test/process/process",
];
/** A short run of the fuzzer. */
const fuzz = ["scripts/fuzz.mjs", "--seed", "7", "--rounds", "4"];

const usage = `Usage: npm run test:sanitize -- [--list] [FILE...]

Runs the native tests, the tests that call native code or whose path contains FILE, and without FILE a few rounds of the
fuzzer, under AddressSanitizer and UndefinedBehaviorSanitizer. --list only prints the test files.`;
const { list, positionals } = parseOptions(usage, { positionals: true });
const chosen = positionals.length > 0 ? positionals : testFiles;
if (list) {
  console.log(chosen.join("\n"));
  process.exit();
}
process.chdir(root);
buildSanitized({ sanitize: "address,undefined", out });
rmSync(reports, { recursive: true, force: true });
mkdirSync(reports);

const common = `halt_on_error=1:print_stacktrace=1:log_path=${join(reports, "report")}`;
const env = {
  ...process.env,
  // Node does not free everything at exit; a failed allocation must be an error as without a sanitizer; and a fake
  // stack for each CUDA thread of the simt device would cost minutes.
  ASAN_OPTIONS: `${common}:detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0`,
  UBSAN_OPTIONS: common,
  MOE_KERNELS_BINARY: addonIn(out, config),
};
run("ctest", ["--test-dir", out, "--output-on-failure"], env);
const preloaded = { ...env, LD_PRELOAD: findRuntime("libasan.so") };
run(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...chosen], preloaded);
if (positionals.length === 0) run(process.execPath, fuzz, preloaded);
console.log("sanitize: no reports");

function run(command, args, environment) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit", env: environment });
  const texts = readdirSync(reports).map((name) => readFileSync(join(reports, name), "utf8"));
  // Other texts are warnings about allocations that tests make too large on purpose.
  const found = texts.filter((text) => /ERROR: |runtime error: /.test(text));
  for (const text of found) console.error(text);
  if (found.length > 0) fail(`${found.length} reports, see above and ${reports}`);
  if (error || status !== 0) fail(`${command}: ${error?.message ?? `exit code ${status}`}`);
}

function fail(reason) {
  console.error(`sanitize: ${reason}`);
  process.exit(1);
}
