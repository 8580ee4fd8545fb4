import { expect, test } from "vitest";
import { runScript } from "../support/run_script.js";
import { golden } from "./golden_model.js";

const script = "build/examples/language_model/commands/throughput.js";
const small = ["--rounds", "2", "--tokens", "3", "--threads", "2"];

/** The numbers of sequences, and the rates by that of the first. */
const rows = (text: string) =>
  [...text.matchAll(/^ *(\d+) +[\d.]+ +[\d.]+ to [\d.]+ +([\d.]+) +[\d.]+$/gm)].map(([, count, rate]) => [count, rate]);

test("npm run example:language-model-throughput measures a model with random weights", () => {
  const shape = ["--shape", "64,32,8,2", "--layers", "2", "--vocabulary", "50"];
  // Prompts of more tokens than a step forwards: sequences begin one after another.
  const more = ["--sequences", "1,3", "--prompt", "200", ...small];
  const { status, stdout, stderr } = runScript(script, [...shape, ...more]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toMatch(/^sequences {2}tokens\/s {2}quartiles {7}of the first {2}ms a step\n/);
  expect(rows(stdout)).toEqual([
    ["1", "1.00"],
    ["3", expect.any(String)],
  ]);
});

test("npm run example:language-model-throughput measures a model that is given", () => {
  const { status, stdout, stderr } = runScript(script, [
    ...["--model", golden("deepseek_v3"), "--dtype", "int8_g32", "--sequences", "2", ...small],
  ]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(rows(stdout)).toEqual([["2", "1.00"]]);
});

test.each([
  ["--shape", "64,32", "expected four sizes H,I,E,K, got 2"],
  ["--sequences", "1,x", 'expected integers above 0 with commas between them, got "1,x"'],
])("refuses %s %s", (option, value, message) => {
  const { status, stderr } = runScript(script, [option, value, ...small]);
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `example:language-model-throughput: ${option}: ${message}\n`,
  });
});
