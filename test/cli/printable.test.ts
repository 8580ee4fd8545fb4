import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import { printable } from "../../lib/core/text/printable.js";
import { goldenModel, writeModel } from "../checkpoint/support/model_directory.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { goldenFile } from "../support/golden.js";
import { runCli } from "./support/run_cli.js";

/** Sets the terminal's title, clears the screen, has an 8-bit control character and changes of writing direction. */
const hostile = "\u001b]0;owned\u0007\u001b[2J\u009b31m\u202egnp.exe\u2066\rX";
const escaped = "\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m\\u202egnp.exe\\u2066\\rX";

test("control characters and changes of direction are escaped, other text is not", () => {
  expect(printable(hostile)).toBe(escaped);
  expect(printable("a\n\tb\u2028\u007f")).toBe("a\\n\\tb\\u2028\\u007f");
  const plain = "model-00001 Ünï 模型 \u{1f600} نموذج \\u001b";
  expect(printable(plain)).toBe(plain);
});

/** Checks that nothing but line breaks acts on a terminal. */
function expectClean(output: string): void {
  expect(output.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u);
}

describe("text from files reaches a terminal escaped", () => {
  test("quantisation method and names of directories", async () => {
    using directory = temporaryDirectory();
    const model = await goldenModel("mixtral_small");
    Object.assign(model.config, { quantization_config: { quant_method: hostile } });
    const [name, tensor] = [...model.weights].find(([key]) => key.includes("experts.0.w1")) as [
      string,
      SafetensorsInput,
    ];
    model.weights.set(name, {
      dtype: "U8",
      shape: [tensor.data.byteLength],
      data: new Uint8Array(tensor.data.byteLength),
    });
    const path = join(directory.path, hostile);
    mkdirSync(path);
    await writeModel(path, model);
    for (const args of [
      ["inspect", path],
      ["inspect", path, "--json"],
      ["run", "--model", path, "--layer", "0", "--device", "reference"],
    ]) {
      const { stdout, stderr } = await runCli(args);
      expect(stdout + stderr).toContain(args.at(-1) === "--json" ? "\\u009b31m\\u202egnp" : escaped);
      expectClean(stdout + stderr);
    }
  });

  test("names and metadata of files", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, `${hostile}.safetensors`);
    const plain = join(directory.path, "plain.safetensors");
    {
      await using file = await SafetensorsFile.open(goldenFile("mixtral_t1"));
      const tensors = new Map<string, SafetensorsInput>();
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      await writeSafetensors(plain, tensors, { metadata: { ...file.metadata, family: hostile } });
    }
    renameSync(plain, path);
    const good = await runCli(["run", "--file", path, "--device", "reference"]);
    expect(good.exitCode).toBe(0);
    expect(good.stdout.split("\n")[0]).toBe(`${escaped} layer of ${escaped}.safetensors`);
    expectClean(good.stdout + good.stderr);
    writeFileSync(path, readFileSync(path).subarray(0, 9));
    const bad = await runCli(["run", "--file", path, "--device", "reference"]);
    expect(bad.stderr).toContain(`${escaped}.safetensors: `);
    expectClean(bad.stdout + bad.stderr);
  });

  test("arguments", async () => {
    for (const args of [
      [hostile],
      ["run", "--shape", hostile],
      ["run", `--${hostile}`],
      ["verify", "--filter", hostile],
    ]) {
      const { stdout, stderr } = await runCli(args);
      expect(stderr).toContain("owned");
      expectClean(stdout + stderr);
    }
  });
});
