// The simt device with ThreadSanitizer, which learns CUDA's barriers from the runtime: the runtime's tests, the case table
// on the CUDA kernels, and that it finds the broken kernels that lack a barrier.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build_native.mjs";
import { buildSanitized, expectClean, expectCleanCases, expectReport, findRuntime, finish } from "./sanitizer.mjs";

const out = "build-race";
const binary = buildSanitized({ sanitize: "thread", out });
const tests = join(root, out, "native/simt/test");
const broken = join(tests, "moe_simt_broken_tests");

expectClean("moe_simt_tests", join(tests, "moe_simt_tests"), []);
for (const kernel of ["right_wait_and_barrier", "right_fragment_rows"]) {
  expectClean(kernel, broken, ["--kernel", kernel]);
}
for (const kernel of [
  "missing_syncthreads",
  "missing_second_syncthreads",
  "missing_syncwarp",
  "missing_barrier_after_wait",
  "race_between_blocks",
]) {
  expectReport(broken, kernel, "data race");
}

// Node itself is not built for ThreadSanitizer, which then misses what orders its threads.
const suppressions = join(root, out, "suppressions");
writeFileSync(suppressions, "race:^v8::\nrace:^node::\nrace:^uv_\nmutex:^v8::\n");
expectCleanCases(binary, [1], {
  LD_PRELOAD: findRuntime("libtsan.so"),
  TSAN_OPTIONS: `suppressions=${suppressions}`,
  // ThreadSanitizer loses reports where it follows many more threads at once.
  MOE_SIMT_MAX_THREADS: "128",
});
finish();
