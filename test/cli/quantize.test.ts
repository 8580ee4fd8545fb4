import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { writeRandomModel } from "../checkpoint/support/random_model.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runCli } from "./support/run_cli.js";

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
const golden = "test/golden/families/qwen3_moe";
const out = join(directory.path, "out");
const quantize = (...options: string[]) =>
  runCli(["quantize", golden, "--layer", "3", "--device", "cpu", "--out", out, ...options]);

describe("moe-kernels quantize", () => {
  test("writes a model that inspect and run read, and prints a table of errors", async () => {
    // A layer that is named twice is written once.
    const { exitCode, stdout, stderr } = await quantize("--format", "int8", "--layer", "3-3");
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "Quantising on cpu ...\n" });
    expect(stdout).toContain(`${out}: 36 matrices of experts in i8_channel_f32, scales by the largest element\n`);
    expect(stdout).toMatch(/KiB became .* KiB in 2 files\n/);
    expect(stdout).toMatch(
      /layer +gate +up +down +worst +of\n─+\n +3 +0\.00\d+ +0\.00\d+ +0\.00\d+ +0\.00\d+ +experts\[\d+\]\.\w+\n/,
    );
    const inspected = await runCli(["inspect", out, "--layer", "3"]);
    expect(inspected).toMatchObject({ exitCode: 0, stderr: "" });
    expect(inspected.stdout).toContain("weights are quantised by compressed-tensors");
    expect(inspected.stdout).toMatch(/experts.up .* i8_channel_f32/);
    const ran = await runCli(["run", "--model", out, "--layer", "3", "--tokens", "4", "--device", "cpu", "--json"]);
    expect(JSON.parse(ran.stdout).runs[0].description.formats.up).toBe("i8_channel_f32");
  });

  test("writes a GGUF file, and says what it lacks", async () => {
    const model = join(directory.path, "model");
    const sizes = { hidden_size: 64, intermediate_size: 32, num_attention_heads: 4, vocab_size: 9 };
    const fields = { num_hidden_layers: 1, num_experts: 2, num_experts_per_tok: 2, max_position_embeddings: 16 };
    const config = { model_type: "olmoe", ...sizes, ...fields, rms_norm_eps: 1e-5, rope_theta: 1e4 };
    const square = ["q_proj", "k_proj", "v_proj", "o_proj"].map(
      (name) => [`self_attn.${name}.weight`, [64, 64]] as const,
    );
    const vectors = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"];
    const layer = Object.fromEntries([...square, ...vectors.map((name) => [`${name}.weight`, [64]] as const)]);
    const whole = { "model.embed_tokens.weight": [9, 64], "model.norm.weight": [64], "lm_head.weight": [9, 64] };
    await writeRandomModel(model, config, { layer, model: whole });
    const file = join(directory.path, "model.gguf");
    const args = ["quantize", model, "--format", "q8_0", "--out", file, "--device", "cpu"];
    const { exitCode, stdout } = await runCli(args);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /6 matrices of experts in i8_g32_f16, .*\n.* KiB became .* KiB in 1 file\nThe file has no tokenizer: there is no tokenizer\.json\n\nRelative/,
    );
    const inspected = await runCli(["inspect", file]);
    expect(inspected).toMatchObject({ exitCode: 0, stderr: "" });
    expect(inspected.stdout).toMatch(/olmoe/);
    const again = await runCli(args);
    expect(again.exitCode).toBe(2);
    expect(again.stderr).toMatch(/^moe-kernels: --out: \S*model.gguf already exists; use --resume /m);
  });

  test("never writes over a folder without being told", async () => {
    const refused = await quantize("--format", "fp8");
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toMatch(/^moe-kernels: --out: expected a new or empty folder/m);
    const { exitCode, stdout } = await quantize("--format", "FP8", "--overwrite", "--scale", "least_squares", "--json");
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      format: "e4m3_channel_f32",
      scale: "least_squares",
      files: 2,
      resumed: 0,
    });
  });

  test("has a usage", async () => {
    rmSync(out, { recursive: true });
    for (const [options, message] of [
      [[], "expected --format FORMAT and --out PATH"],
      [["--format", "int8", "--resume", "--overwrite"], "--resume cannot be combined with --overwrite"],
      [["--format", "int8", "--scale", "best"], '--scale: expected one of largest, least_squares, got "best"'],
      [["--format", "int9"], '--format: expected the name of a weight format such as "int4_g128"'],
      [["--format", "bf16"], "--format: expected a quantised format, got bf16"],
      [["--format", "int8", "--layer", "x"], '--layer: expected an integer >= 0, got "x"'],
      [["--format", "int8", "--layer", "5-3"], '--layer: expected a range from low to high, got "5-3"'],
    ] as const) {
      const { exitCode, stderr } = await quantize(...options);
      expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining(message) });
    }
    expect(existsSync(out)).toBe(false);
  });

  test("names options as they were typed", async () => {
    for (const [options, code, message] of [
      [["--format", "int8", "--layer", "7"], 2, "moe-kernels: --layer: expected an integer from 0 to "],
      [
        ["--format", "nf4_g64_f32"],
        1,
        "moe-kernels: UNSUPPORTED_DTYPE: --format: compressed-tensors has no layout for ",
      ],
    ] as const) {
      const { exitCode, stderr } = await quantize(...options);
      expect({ exitCode, stderr }).toEqual({ exitCode: code, stderr: expect.stringContaining(message) });
    }
  });
});
