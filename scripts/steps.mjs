// Runs programs on an addon that was built to find mistakes, and prints and counts their verdicts.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { root } from "./build_native.mjs";
import { readOptions } from "./options.mjs";

/** What sanitizers and the PTX machine write when they find a mistake. */
const reports = /(?:ERROR|WARNING): \w+Sanitizer|runtime error: |moe ptx machine: /;

/** The path of the addon built in `out`, a folder relative to the package. */
export function addonIn(out, config) {
  return join(root, out, config, "moe_kernels.node");
}

/**
 * A step that passes if the command succeeds without a report. `env` is a function because it may need a compiler.
 * `live`: the output is also shown while the command runs.
 */
export function clean(name, command, args = [], env = () => ({}), { live = false } = {}) {
  return { name, command, args, env, live, passes: ({ status, output }) => status === 0 && !reports.test(output) };
}

/** The same with environment variables set, which its name begins with. */
export function cleanWith(set, name, command, args, env = () => ({}), options = {}) {
  const settings = Object.entries(set).map(([key, value]) => `${key}=${value}`);
  return clean([...settings, name].join(" "), command, args, () => ({ ...env(), ...set }), options);
}

/** Steps that run the case table with this addon, one for each `{ args, set }`: arguments of verify, and variables. */
export function verifySteps(addon, runs, env = () => ({})) {
  return runs.map(({ args, set }) => {
    const command = ["verify", ...args];
    const program = [join(root, "dist/cli/main.js"), ...command];
    return cleanWith(set, command.join(" "), process.execPath, program, () => ({
      ...env(),
      MOE_KERNELS_BINARY: addon,
    }));
  });
}

/** Options and positional arguments of a script with `--list`; `--help` or an unknown option ends the process. */
export function parseOptions(usage, { positionals: allowPositionals = false, options = {} } = {}) {
  const parsed = readOptions(usage, { options: { list: { type: "boolean" }, ...options }, allowPositionals });
  return { ...parsed.values, list: parsed.values.list === true, positionals: parsed.positionals };
}

/** Prints the names of the steps. */
export function listSteps(steps) {
  for (const { name } of steps) console.log(name);
}

/** Runs all steps and prints a verdict for each; the exit code is 1 if one failed. */
export async function runSteps(steps) {
  let failed = 0;
  for (const [index, step] of steps.entries()) {
    console.log(`${index + 1}/${steps.length} ${step.name} ...`);
    const started = performance.now();
    const { status, output } = await runStep(step);
    const passed = step.passes({ status, output });
    if (!passed) failed += 1;
    if (!passed && !step.live) console.log(output);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.log(`${passed ? "pass" : "FAIL"} ${step.name} (${seconds} s)`);
  }
  console.log(`${steps.length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

/** The exit code of a step, or the signal that ended it, and everything that it wrote. */
async function runStep({ command, args, env, live }) {
  const child = spawn(command, args, {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env() },
  });
  const texts = { stdout: "", stderr: "" };
  for (const name of Object.keys(texts)) {
    child[name].setEncoding("utf8").on("data", (text) => {
      texts[name] += text;
      if (live) process[name].write(text);
    });
  }
  const [status, signal] = await once(child, "close");
  return { status: status ?? signal, output: texts.stdout + texts.stderr };
}
