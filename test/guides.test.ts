import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSafetensors } from "../lib/checkpoint/safetensors/index.js";
import { writeRandomModel } from "./checkpoint/support/random_model.js";
import { runProgram } from "./support/run_program.js";

// Every block of JavaScript in the guides runs, in a folder with tiny models of the names that the guides use.

const folder = "docs/guides";
const guides = readdirSync(folder).filter((name) => name.endsWith(".md"));

let directory: string;
beforeAll(async () => {
  mkdirSync("build", { recursive: true });
  directory = mkdtempSync(join("build", "guides-")); // inside the package, so that its own name can be imported
  await writeModels(directory);
});
afterAll(() => rmSync(directory, { recursive: true }));

async function writeModels(path: string): Promise<void> {
  const sizes = { num_hidden_layers: 2, hidden_size: 64, moe_intermediate_size: 32, num_experts: 8 };
  await writeRandomModel(
    join(path, "Qwen3-30B-A3B"),
    { ...sizes, model_type: "qwen3_moe", num_experts_per_tok: 2 },
    {},
  );
  mkdirSync(join(path, "my-moe"));
  writeFileSync(join(path, "my-moe", "config.json"), JSON.stringify({ ...sizes, model_type: "my_moe" }));
  const tensor = (...shape: number[]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    return {
      dtype: "F32",
      shape,
      data: Float32Array.from({ length: size }, (_, index) => Math.sin(index) / 8),
    } as const;
  };
  await writeSafetensors(join(path, "my-moe", "model.safetensors"), {
    "layers.1.moe.router": tensor(8, 64),
    "layers.1.moe.gate_up": tensor(8, 64, 64),
    "layers.1.moe.down": tensor(8, 64, 32),
  });
}

const blocks = guides.flatMap((guide) => {
  const text = readFileSync(join(folder, guide), "utf8");
  return [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, program], index) => ({
    file: `${guide.replace(/\.md$/, "")}_${index + 1}.mjs`,
    program: program as string,
  }));
});

test.each(blocks)("$file runs", ({ file, program }) => {
  const { status, stdout, stderr } = runProgram(directory, file, program);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).not.toBe("");
});

test("guides have blocks", () => expect(blocks.length).toBeGreaterThan(2));
