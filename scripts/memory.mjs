// Runs the simt runtime's tests with AddressSanitizer and UndefinedBehaviorSanitizer, and checks that these stop the
// kernels that overrun shared memory.
import { buildSimtTests } from "./simt_tests.mjs";
import { expectClean, expectReport, finish } from "./verdicts.mjs";

const run = buildSimtTests({ folder: "build-simt-memory", sanitize: "address,undefined", output: "inherit" });
const env = { ASAN_OPTIONS: "detect_stack_use_after_return=0", UBSAN_OPTIONS: "print_stacktrace=1" };
expectClean(run, "moe_simt_tests", [], env);
expectClean(run, "moe_simt_broken_tests", [], env);
for (const kernel of ["store_past_dynamic", "store_past_static"]) {
  expectReport(run, kernel, "use-after-poison", env);
}
finish();
