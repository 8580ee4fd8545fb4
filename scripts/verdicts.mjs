// What a sanitizer run must say, printed line by line and counted.
let passed = 0;
let failed = 0;

function verdict(name, ok, output) {
  console.log(`${ok ? "pass" : "FAIL"} ${name}`);
  if (ok) passed += 1;
  else failed += 1;
  if (!ok) console.log(output);
}

/** The executable's tests pass without a report. */
export function expectClean(run, executable, args, env) {
  const { status, output } = run(executable, args, env);
  const clean = status === 0 && !/Sanitizer|runtime error:/.test(output);
  verdict([executable, ...args].join(" "), clean, output);
}

/** The sanitizer stops the broken kernel with a report of this kind that names its source. */
export function expectReport(run, kernel, kind, env) {
  const { status, output } = run("moe_simt_broken_tests", ["--kernel", kernel], env);
  verdict(`${kernel}: ${kind}`, status !== 0 && output.includes(kind) && /broken_kernels\.cc:\d+/.test(output), output);
}

/** Prints the counts and ends the process, with a failure where there was one. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}
