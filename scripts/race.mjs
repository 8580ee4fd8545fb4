// Runs the simt runtime's tests with ThreadSanitizer, which knows CUDA's barriers from the runtime, and checks that it
// finds the kernels that lack one.
import { buildSimtTests } from "./simt_tests.mjs";
import { expectClean, expectReport, finish } from "./verdicts.mjs";

const run = buildSimtTests({ folder: "build-simt-race", sanitize: "thread", output: "inherit" });
expectClean(run, "moe_simt_tests", []);
for (const kernel of ["right_wait_and_barrier", "right_fragment_rows"]) {
  expectClean(run, "moe_simt_broken_tests", ["--kernel", kernel]);
}
for (const kernel of [
  "missing_syncthreads",
  "missing_second_syncthreads",
  "missing_syncwarp",
  "missing_barrier_after_wait",
  "race_between_blocks",
]) {
  expectReport(run, kernel, "data race");
}
finish();
