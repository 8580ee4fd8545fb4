import { describe, expect, test } from "vitest";
import { aboutOptions, typedNames } from "../../lib/cli/about_options.js";
import { MoeError, type MoeErrorCode } from "../../lib/core/errors.js";
import { UsageError } from "../../lib/terminal/option_values.js";
import { runCli } from "./support/run_cli.js";

const options = { out: {}, resume: {}, "token-format": { multiple: true }, layer: { multiple: true }, time: {} };
const typed = typedNames(options, { seconds: "--time" });
const about = (message: string, code: MoeErrorCode = "INVALID_ARGUMENT") =>
  aboutOptions(new MoeError(code, message), typed);

describe("an error of a function", () => {
  test.each([
    ["out: expected a folder", "--out: expected a folder"],
    ["tokenFormat: expected none", "--token-format: expected none"],
    ["tokenFormats: expected one", "--token-format: expected one"],
    ["layers[3]: expected an integer from 0 to 5, got 9", "--layer: expected an integer from 0 to 5, got 9"],
    ["layers: expected each layer once", "--layer: expected each layer once"],
    ["seconds: expected a finite number > 0", "--time: expected a finite number > 0"],
    ["layers[0] cannot be combined with resume", "--layer cannot be combined with --resume"],
    ["resume requires out", "--resume requires --out"],
    ["layer requires {layer} in the names of tensors", "--layer requires {layer} in the names of tensors"],
  ])("%j is a wrong command line that names what was typed", (message, expected) => {
    const error = about(message) as UsageError;
    expect(error).toBeInstanceOf(UsageError);
    expect(error).toMatchObject({ message: expected, cause: { message } });
  });

  test.each(["x: expected a Tensor", "out of memory", "layers of other files: none", "constructor: expected none"])(
    "%j is about no option",
    (message) => {
      expect(about(message)).toMatchObject({ code: "INVALID_ARGUMENT", message });
    },
  );

  test("of a file that is called as an option is about the file", () => {
    expect(about("out: expected a model directory", "BAD_CHECKPOINT")).toMatchObject({ code: "BAD_CHECKPOINT" });
    expect(about("out: cannot be written", "WRITE_FAILED")).toMatchObject({ message: "out: cannot be written" });
  });

  test("keeps a code that does not blame the command line", () => {
    expect(about("out: no blocks", "UNSUPPORTED_DTYPE")).toMatchObject({
      code: "UNSUPPORTED_DTYPE",
      message: "--out: no blocks",
    });
  });
});

test.each([
  [
    "bench",
    "--tokens",
    "999999999999",
    "--tokens: expected what fits into memory, got 999999999999 tokens of D in bf16",
  ],
  ["bench", "--operator", "sort", "--tokens", "9999999999999", "--tokens: .* got 9999999999999 tokens of D in bf16"],
  [
    "bench",
    "--shape",
    "999999,999999,999,8",
    "--shape: expected what fits into memory, got 999999x999999x999x8 in bf16",
  ],
  ["bench", "--weights", "4294967296", "--weights: expected what fits into memory, got 4503599627370496 bytes"],
])("%j %j %j is more than memory holds", async (...given) => {
  const [message, ...args] = [...given].reverse() as [string, ...string[]];
  const { exitCode, stdout, stderr } = await runCli(args.reverse());
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  expect(stderr).toMatch(
    new RegExp(`^moe-kernels: OUT_OF_MEMORY: ${message}, which takes at least \\S+ .iB for .* are free; give .*\n$`),
  );
});

test.each([
  [
    "999999,999999,999,8",
    "OUT_OF_MEMORY: --shape: expected what fits into memory, got 999999x999999x999x8 in bf16, which takes",
  ],
  ["9999999999999,999999,999,8", "--shape: expected a layer of fewer than 2^53 weights, got 999999"],
])("a layer of shape %s is more than memory holds", async (shape, message) => {
  const { stderr } = await runCli(["run", "--shape", shape, "--device", "reference", "--tokens", "1"]);
  expect(stderr).toContain(`moe-kernels: ${message}`);
});

test("an integer that is too large is told the limit", async () => {
  const { stderr } = await runCli(["inspect", "DIR", "--tokens", "9007199254740993"]);
  expect(stderr).toContain('--tokens: expected an integer from 1 to 9007199254740991, got "9007199254740993"\n');
});

test("arrays that are too long for the tokens of a run are named", async () => {
  const args = ["run", "--shape", "8,8,2,1", "--device", "reference", "--tokens", "999999999999"];
  const { exitCode, stderr } = await runCli(args);
  expect(exitCode).toBe(1);
  const message =
    "--tokens: expected what fits into memory, got 999999999999 of 8 values, which take 29.1 TiB in float32";
  expect(stderr).toContain(`moe-kernels: OUT_OF_MEMORY: ${message}; give fewer\n`);
});

test.each([
  [["bench", "--tokens", ","], "--tokens: expected at least one, got none"],
  [["bench", "--dtype", ""], "--dtype: expected at least one, got none"],
  [["bench", "--operator", ""], "--operator: expected at least one, got none"],
  [["bench", "--weights", "99999999999"], '--weights: expected an integer from 0 to 4294967296, got "99999999999"'],
  [["verify", "--device", ","], "--device: expected at least one, got none"],
  [["run", "--model", "DIR", "--layer", ","], "--layer: expected at least one, got none"],
  [["bench", "--calls", "9999999"], '--calls: expected an integer from 1 to 1000000, got "9999999"'],
  [["bench", "--rounds", "9999999"], '--rounds: expected an integer from 1 to 1000000, got "9999999"'],
  [["quantize", "DIR", "--format", "int8", "--out", ""], '--out: expected the name of a folder or a file, got ""'],
  [["quantize", ""], 'expected the name of a directory, got ""'],
  [["inspect", ""], 'expected the name of a directory or a file, got ""'],
  [["run", "--model", ""], '--model: expected the name of a directory, got ""'],
  [["run", "--shape", "D", "--report="], '--report: expected the name of a file, got ""'],
  [["bench", "--contender", ""], '--contender: expected the name of a file, got ""'],
  [["bench", "compare", "a.json", ""], 'expected the name of the file AFTER.json, got ""'],
  [["offload-trace", "a", ""], 'expected the name of a file, got ""'],
  [["run", "--shape", "D", "--seed", "1", "--seed", "2"], '--seed: expected one value, got "1" and "2"'],
])("%j is a wrong command line", async (args, message) => {
  const { exitCode, stdout, stderr } = await runCli(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toContain(`moe-kernels: ${message}\n`);
});
