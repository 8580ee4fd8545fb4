import { expect, test } from "vitest";
import { golden } from "../examples/golden_model.js";
import { needs } from "../support/requirements.js";
import { runCli } from "./support/run_cli.js";

// Reading some devices never ends.
test.each([
  [
    ["bench", "compare", "/dev/zero", "/dev/zero"],
    "expected a file that bench --json wrote, got /dev/zero: it is a device",
  ],
  [["offload-trace", "/dev/zero"], "/dev/zero: expected a readable file: it is a device"],
  [["offload-trace", "/"], "/: expected a readable file: it is a folder"],
  [
    ["verify", "--subject", "/dev/zero"],
    "--subject: expected the file of a module, got /dev/zero, which is not a regular",
  ],
  [["bench", "--contender", "/"], "--contender: expected the file of a module, got /, which is not a regular file"],
  [["inspect", "/dev/zero"], "NAME.gguf or a layer file NAME.safetensors, got a device or a pipe"],
  [["run", "--model", "/dev/zero"], "NAME.gguf or a layer file NAME.safetensors, got a device or a pipe"],
  [["run", "--file", "/dev/zero"], "/dev/zero: cannot be read: expected a regular file, got a device"],
])("%j", needs("/dev/null and /dev/zero"), async (args, message) => {
  const { exitCode, stderr } = await runCli(args);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(message);
  expect(stderr).not.toContain("\n    at ");
});

test("a folder cannot be made in one that takes none", needs("Linux"), async () => {
  const args = [
    "quantize",
    golden("qwen3_moe"),
    "--format",
    "int8",
    "--out",
    "/proc/moe-kernels",
    "--device",
    "reference",
  ];
  const { exitCode, stderr } = await runCli(args);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("moe-kernels: WRITE_FAILED: /proc/moe-kernels: cannot be written: ENOENT");
});
