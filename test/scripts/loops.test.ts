import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { needs } from "../support/requirements.js";
import { runScript } from "../support/run_script.js";

const tools = needs("x64", "cc and objdump");

/** An object whose function has a loop around these instructions, and another loop around that one. */
function assembled(instructions: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), "moe-loops-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const source = join(folder, "tiles.s"),
    object = join(folder, "tiles.cc.o");
  const lines = [
    "tile:",
    "1:",
    "mov %rsi, %rdi",
    "2:",
    ...instructions,
    "dec %rdi",
    "jne 2b",
    "dec %rdx",
    "jne 1b",
    "ret",
  ];
  writeFileSync(source, `.type tile, @function\n${lines.join("\n")}\n.section .note.GNU-stack,"",@progbits\n`);
  expect(spawnSync("cc", ["-c", source, "-o", object], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  return object;
}

const products = Array.from({ length: 8 }, (_, i) => `vpdpbusd %zmm30, %zmm31, %zmm${i}`);

test("counts what the innermost loop of products reads back from the stack", tools, () => {
  const object = assembled([
    "vmovdqu64 64(%rsp), %zmm30",
    "vpaddd 128(%rsp), %zmm0, %zmm0",
    "vmovdqu64 64(%rsi), %zmm31",
    "vpbroadcastd 4(%rsp), %zmm29",
    "vpaddd 8(%rsp){1to16}, %zmm0, %zmm0",
    ...products,
    "vmovdqa32 %zmm0, 64(%rsp)",
  ]);
  const { status, stdout, stderr } = runScript("scripts/loops.mjs", ["--json", "--above", "0.2", object]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(JSON.parse(stdout)).toEqual([
    { object: "tiles", kernel: "tile", products: 8, reloads: 2, spills: 1, instructions: 16 },
  ]);
  const none = runScript("scripts/loops.mjs", [object]);
  expect(none.stdout).toBe("1 innermost loops multiply; 0 of them reload more than 0.25 vectors for each product\n");
});

test("loops with few products are not counted", tools, () => {
  const { stdout } = runScript("scripts/loops.mjs", ["--json", "--above", "0", "--products", "9", assembled(products)]);
  expect(JSON.parse(stdout)).toEqual([]);
});

test.each([
  [["--above", "much"], '--above: expected a number from 0 on, got "much"'],
  [["--products=-1"], '--products: expected a number from 0 on, got "-1"'],
])("wrong options: %j", (options, message) => {
  const { status, stderr } = runScript("scripts/loops.mjs", options);
  expect({ status, first: stderr.split("\n")[0] }).toEqual({ status: 2, first: message });
});

test("the compiled kernels have loops of products", tools, () => {
  const { status, stdout } = runScript("scripts/loops.mjs", ["avx512_vnni"]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^\d{3,} innermost loops multiply/m);
});

// Other compilers may spill elsewhere.
const gccTools = needs("x64", "cc and objdump", "GCC 12");
test("parts of tall tiles keep results and operands in registers", gccTools, () => {
  const { stdout } = runScript("scripts/loops.mjs", ["--json", "--above", "0", "avx512_vnni", "avx512_bf16"]);
  const listed = JSON.parse(stdout) as { kernel: string; products: number; reloads: number }[];
  expect(listed.filter(({ kernel, products, reloads }) => kernel.includes("Part<") && reloads * 20 > products)).toEqual(
    [],
  );
});

test("says what is missing", () => {
  const { status, stderr } = runScript("scripts/loops.mjs", ["no-such-instruction-set"]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^loops: expected /);
});
