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
  [["bench", "--tokens", ","], "--tokens: expected at least one, got none"],
  [["bench", "--dtype", ""], "--dtype: expected at least one, got none"],
  [["bench", "--operator", ""], "--operator: expected at least one, got none"],
  [["bench", "--weights", "99999999999"], '--weights: expected an integer from 0 to 4294967296, got "99999999999"'],
  [["verify", "--device", ","], "--device: expected at least one, got none"],
  [["run", "--model", "DIR", "--layer", ","], "--layer: expected at least one, got none"],
  [["quantize", "DIR", "--format", "int8", "--out", ""], '--out: expected the name of a folder or a file, got ""'],
])("%j is a wrong command line", async (args, message) => {
  const { exitCode, stdout, stderr } = await runCli(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toContain(`moe-kernels: ${message}\n`);
});
