// Runs the simt device under AddressSanitizer and UndefinedBehaviorSanitizer: the runtime's tests and the case table on
// the CUDA kernels; and checks that the sanitizers stop broken kernels that overrun shared memory.
import { join } from "node:path";
import { root } from "./build_native.mjs";
import { cleanCases, findRuntime, report, runSanitized } from "./sanitizer.mjs";
import { clean } from "./steps.mjs";

const out = "build-sanitize";
const tests = join(root, out, "native/simt/test");
const broken = join(tests, "moe_simt_broken_tests");
// A fake stack for each CUDA thread would cost minutes.
const asan = "detect_stack_use_after_return=0";
const env = () => ({ ASAN_OPTIONS: asan, UBSAN_OPTIONS: "print_stacktrace=1" });

await runSanitized({
  usage: `Usage: npm run test:memory -- [--list]

Runs the simt device under AddressSanitizer and UndefinedBehaviorSanitizer. --list only prints the steps.`,
  sanitize: "address,undefined",
  out,
  steps: [
    clean("moe_simt_tests", join(tests, "moe_simt_tests"), [], env),
    clean("moe_simt_broken_tests", broken, [], env),
    ...["store_past_dynamic", "store_past_static"].map((kernel) => report(broken, kernel, "use-after-poison", env)),
    ...cleanCases(out, [1, 2], () => ({
      ...env(),
      LD_PRELOAD: findRuntime("libasan.so"),
      // Node does not free everything at exit.
      ASAN_OPTIONS: `${asan}:detect_leaks=0`,
    })),
  ],
});
