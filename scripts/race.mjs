// Runs the simt device under ThreadSanitizer, which learns CUDA's barriers from the runtime: the runtime's tests and
// the case table on the CUDA kernels; and checks that it reports broken kernels that lack a barrier.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build_native.mjs";
import { cleanCases, findRuntime, report, runSanitized } from "./sanitizer.mjs";
import { clean } from "./steps.mjs";

const out = "build-race";
const tests = join(root, out, "native/simt/test");
const broken = join(tests, "moe_simt_broken_tests");
const racing = [
  "missing_syncthreads",
  "missing_second_syncthreads",
  "missing_syncwarp",
  "missing_barrier_after_wait",
  "race_between_blocks",
];

await runSanitized({
  usage: `Usage: npm run test:race -- [--list]

Runs the simt device under ThreadSanitizer. --list only prints the steps.`,
  sanitize: "thread",
  out,
  steps: [
    clean("moe_simt_tests", join(tests, "moe_simt_tests")),
    ...["right_wait_and_barrier", "right_fragment_rows"].map((kernel) => clean(kernel, broken, ["--kernel", kernel])),
    ...racing.map((kernel) => report(broken, kernel, "data race")),
    ...cleanCases(out, [1, 2], () => ({
      LD_PRELOAD: findRuntime("libtsan.so"),
      TSAN_OPTIONS: `suppressions=${writeSuppressions()}`,
      // ThreadSanitizer loses reports if it has to track many more threads at once.
      MOE_SIMT_MAX_THREADS: "128",
    })),
  ],
});

/** Node itself is not built with ThreadSanitizer, which therefore misses the synchronisation of Node's threads. */
function writeSuppressions() {
  const path = join(root, out, "suppressions");
  writeFileSync(path, "race:^v8::\nrace:^node::\nrace:^uv_\nmutex:^v8::\n");
  return path;
}
