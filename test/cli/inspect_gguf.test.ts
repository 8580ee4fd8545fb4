import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Random } from "../../lib/testing/inputs/random.js";
import { type RandomLayer, randomLayer } from "../checkpoint/support/gguf_layer.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { type GgufInput, rawGguf } from "../support/gguf.js";
import { runCli } from "./support/run_cli.js";

async function inspect(options: RandomLayer, change = (file: GgufInput): GgufInput => file) {
  using directory = temporaryDirectory();
  const path = join(directory.path, "model.gguf");
  writeFileSync(path, rawGguf(change(randomLayer(new Random("inspect"), options).file)));
  return await runCli(["inspect", path]);
}

test("inspect tells formula, types and memory of a GGUF file", async () => {
  const { exitCode, stdout, stderr } = await inspect({ gate: "Q4_K", down: "Q6_K" });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toContain("model.gguf: qwen3_moe, 1 layer, all with experts: 0\n");
  expect(stdout).toContain("H 256, I 256, 3 experts of gate, up and down (swiglu), 2 per token\n");
  expect(stdout).toMatch(
    /^experts\.gate +blk\.0\.ffn_gate_exps\.weight +\[3, 256, 256\] +q4_k +4\.50 +experts stacked$/m,
  );
  expect(stdout).toMatch(
    /^experts\.down +blk\.0\.ffn_down_exps\.weight +\[3, 256, 256\] +q6_k +6\.56 +experts stacked$/m,
  );
  expect(stdout).toContain("4 of 4 tensors found");
});

test("inspect tells what takes more memory than in the file", async () => {
  const { stdout } = await inspect({ gate: "IQ2_XXS", down: "Q6_K" });
  expect(stdout.match(/^loaded, .*$/gm)).toEqual([
    "loaded, iq2_xxs takes 3.31 bits a weight, on CPUs with AVX-512 VBMI 2.19",
  ]);
});

test("inspect names what is missing or cannot be loaded", async () => {
  const { exitCode, stdout } = await inspect({}, (file) => ({
    ...file,
    tensors: (file.tensors ?? []).flatMap((tensor) => {
      if (tensor.name.includes("up")) return [];
      return tensor.name.includes("down")
        ? [{ name: tensor.name, type: "Q8_1", shape: tensor.shape } as const]
        : [tensor];
    }),
  }));
  expect(exitCode).toBe(1);
  expect(stdout).toContain("missing: blk.0.ffn_up_exps.weight");
  expect(stdout).toMatch(/"blk\.0\.ffn_down_exps\.weight": expected one of the types F32, .*, got Q8_1/);
});

test("inspect refuses a GGUF file without experts, and other architectures", async () => {
  const dense = await inspect({}, ({ metadata }) => ({ metadata: metadata ?? {} }));
  expect(dense.exitCode).toBe(1);
  expect(dense.stderr).toMatch(/model\.gguf: expected layers with experts, got 1 dense layers/);
  const other = await inspect({}, (file) => ({ ...file, metadata: { "general.architecture": "mamba" } }));
  expect(other.stderr).toMatch(
    /general\.architecture: expected a known model family, got "mamba"; did you mean "jamba"\? If not, say what /,
  );
});
