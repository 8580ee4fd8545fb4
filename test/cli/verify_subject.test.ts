import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import type { SubjectReport } from "../../lib/testing/index.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";
import { runScript } from "../support/run_script.js";
import { runCli } from "./support/run_cli.js";

const example = join("examples", "verify_your_kernel", "plain_subject.mjs");

test("verify --subject runs the example, which passes", async () => {
  const { exitCode, stdout, stderr } = await runCli(["verify", "--subject", example, "--filter", "T7 "]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "Verifying plain JavaScript ...\n" });
  expect(stdout).toMatch(/^plain JavaScript: \d+ cases in .*, ✔ passed$/m);
  for (const operator of ["routerProjection", "gating", "combine"])
    expect(stdout).toMatch(new RegExp(`^${operator} `, "m"));
  expect(stdout).toMatch(/^Skipped: \d+ cases that the subject does not support$/m);
});

test("verify --subject runs the example in python3, which passes", needs("python3"), async () => {
  const file = join("examples", "verify_your_kernel", "python_subject.mjs");
  const { exitCode, stdout } = await runCli(["verify", "--subject", file]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^plain Python: \d+ cases in .*, ✔ passed$/m);
  for (const operator of ["permute", "sgd"]) expect(stdout).toMatch(new RegExp(`^${operator} `, "m"));
});

test("a subject that is wrong ends with 1, and reports say so", async () => {
  using directory = temporaryDirectory();
  const at = (name: string) => join(directory.path, name);
  const code = 'export default { name: "wrong", operators: { sort: () => { throw new Error("no kernel"); } } };';
  writeFileSync(at("subject.mjs"), code);
  const reports = ["report.json", "report.xml", "report.html"].map(at).join(",");
  const args = ["verify", "--subject", at("subject.mjs"), "--filter", "T13", "--seed", "4", "--report", reports];
  const { exitCode, stdout } = await runCli(args);
  expect(exitCode).toBe(1);
  expect(stdout).toContain("✘ sort T13 k8 E8 even: no kernel\n");
  expect(JSON.parse(readFileSync(at("report.json"), "utf8"))).toMatchObject({
    subject: "wrong",
    seed: 4,
    passed: false,
  });
  expect(readFileSync(at("report.xml"), "utf8")).toContain('<failure message="no kernel"/>');
  expect(readFileSync(at("report.html"), "utf8")).toContain("<title>wrong: 1 cases, 1 failed</title>");
  const json = await runCli(["verify", "--subject", at("subject.mjs"), "--filter", "T13", "--json"]);
  expect(JSON.parse(json.stdout)).toMatchObject({ passed: false, results: [{ failure: "no kernel" }] });
});

const unsettled = "a promise is awaited that nothing can settle any more";

test("promises that nothing can settle are failed cases, and a warning at the end", () => {
  using directory = temporaryDirectory();
  const at = (name: string) => join(directory.path, name);
  const never = "new Promise(() => {})";
  const late = "new Promise((resolve) => setTimeout(resolve, 5, null))";
  const operators = `sort: () => ${never}, combine: () => ${late}`;
  const supports = `supports: (operator) => operator === "unpermute" ? ${never} : true`;
  const code = `export default { name: "never", ${supports}, close: () => ${never}, operators: { ${operators}, unpermute() {} } };`;
  writeFileSync(at("subject.mjs"), code);
  const args = ["verify", "--subject", at("subject.mjs"), "--filter", "T13", "--report", at("report.json")];
  const { status, stderr } = runScript("dist/cli/main.js", args);
  expect(status).toBe(1);
  expect(stderr).toContain(`Warning: close() of never failed: ${unsettled}\n`);
  const { results, skipped } = JSON.parse(readFileSync(at("report.json"), "utf8")) as SubjectReport;
  const failures = results.map(({ operator, failure }) => `${operator}: ${failure}`);
  expect(new Set(failures)).toEqual(new Set([`sort: ${unsettled}`, `unpermute: supports: ${unsettled}`]));
  expect(new Set(skipped.map(({ operator }) => operator))).toEqual(new Set(["combine"]));
});

test("a module that waits for what nothing can settle cannot be loaded", () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "subject.mjs");
  writeFileSync(file, "await new Promise(() => {}); export default {};");
  const { status, stderr } = runScript("dist/cli/main.js", ["verify", "--subject", file]);
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `moe-kernels: INVALID_ARGUMENT: --subject: ${file} cannot be loaded: ${unsettled}\n`,
  });
});

test("what is not done within --timeout is an error, and keeps no process going", () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "subject.mjs");
  writeFileSync(file, "setInterval(() => {}, 1000); await new Promise(() => {}); export default {};");
  const { status, stderr } = runScript("dist/cli/main.js", ["verify", "--subject", file, "--timeout", "0.001"]);
  const late = "a promise did not settle within the timeout of 0.001 seconds";
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `moe-kernels: INVALID_ARGUMENT: --subject: ${file} cannot be loaded: ${late}\n`,
  });
});

test("--timeout is also that of the calls", async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "subject.mjs");
  const work = setInterval(() => {}, 1000);
  // The clock of timers moves when the subject is called, and by that alone.
  const moves = "() => { globalThis.moveTimers(); return new Promise(() => {}); }";
  writeFileSync(file, `export default { name: "never", operators: { permute: ${moves} } };`);
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  vi.stubGlobal("moveTimers", () => setImmediate(() => vi.advanceTimersByTime(7000)));
  const args = ["verify", "--subject", file, "--filter", "R33 H51 f32", "--timeout", "7"];
  const { exitCode, stdout } = await runCli(args).finally(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
    clearInterval(work);
  });
  expect(exitCode).toBe(1);
  expect(stdout).toContain("a promise did not settle within the timeout of 7 seconds");
});

test("what a subject prints goes to standard error, and results alone to standard output", () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "subject.mjs");
  const permute = "permute() { process.stdout.write('called\\n'); return null; }";
  const close = "close() { console.info('closed'); }";
  writeFileSync(file, `console.log("loaded"); export default { name: "prints", operators: { ${permute} }, ${close} };`);
  const args = ["verify", "--subject", file, "--filter", "R33 H51 f32", "--json"];
  const { stdout, stderr } = runScript("dist/cli/main.js", args);
  expect(JSON.parse(stdout)).toMatchObject({ subject: "prints", skipped: [{ operator: "permute" }] });
  expect(stderr).toBe("loaded\nVerifying prints ...\ncalled\nclosed\n");
});

test.each([
  ["verify", "--subject"],
  ["bench", "--shape", "16,8,4,2", "--operator", "permute", "--tokens", "1", "--device", "reference", "--contender"],
])("a module that ends the process is no success of %s", (...args) => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "subject.mjs");
  for (const code of [
    "process.exit(0)",
    "export default { name: 'ends', operators: { permute() { process.exit(); } } }",
  ]) {
    writeFileSync(file, code);
    const { status, stderr } = runScript("dist/cli/main.js", [...args, file]);
    expect(status).toBe(1);
    expect(stderr).toContain("moe-kernels: a module ended the process before the command was done\n");
  }
});

test("the default export may be a promise, and cases may be repeated", async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "subject.mjs");
  const rows = "{ rows: new Float32Array(33 * 51).fill(calls++) }";
  writeFileSync(
    file,
    `let calls = 0; export default Promise.resolve({ name: "counts", operators: { permute: () => (${rows}) } });`,
  );
  const filter = ["--filter", "R33 H51 f32"];
  const { exitCode, stdout } = await runCli(["verify", "--subject", file, "--repeat", "2", ...filter]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/; rows in call 2: error .*, none allowed; 1683 of 1683 values wrong, in \[0-32, 0-50\]; /);
  const { stdout: json } = await runCli(["verify", "--device", "cpu", "--repeat", "2", "--json", ...filter]);
  const [device] = JSON.parse(json).devices;
  expect(device.results[0].checks).toMatchObject([{ output: "rows" }, { output: "rows in call 2", passed: true }]);
});

test.each([
  [["--repeat", "0"], '--repeat: expected an integer from 1 to 1000000, got "0"'],
  [["--subject", example, "--device", "cpu"], "--device cannot be combined with --subject"],
  [["--subject", example, "--report", "x.pdf"], '--report: expected a name in .json, .xml or .html, got "x.pdf"'],
  [["--subject", example, "--report", "x.xml,./x.xml"], '--report: expected different files, got "./x.xml" twice'],
  [["--subject", example, "--filter", "frobnicate"], "--filter: expected text in a case of routerProjection, "],
  [["--seed", "3"], "--seed needs --subject"],
  [["--report", "x.xml"], "--report needs --subject"],
] as const)("%j is a wrong command line", async (args, message) => {
  const { exitCode, stderr } = await runCli(["verify", ...args]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(message);
});

test("a report that cannot be written is refused before anything is run", async () => {
  const { exitCode, stderr } = await runCli(["verify", "--subject", example, "--report", "x.html,none/x.html"]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(
    /^moe-kernels: INVALID_ARGUMENT: --report: expected a writable file, got none\/x\.html: ENOENT/,
  );
  expect(existsSync("x.html")).toBe(false);
});

test("a module without a subject is a wrong command line", async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "empty.mjs");
  writeFileSync(file, "export const name = 1;");
  const { exitCode, stderr } = await runCli(["verify", "--subject", file]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain("to have a default export { name, operators }");
});
