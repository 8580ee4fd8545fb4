// Lists the innermost loops of the CPU's kernels that multiply, with how often they read vectors back from the stack.
// A compiler that runs out of registers spills what products need, and says nothing: such a loop takes up to twice as
// long. Reads what the build has compiled; needs objdump of binutils.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { renderTable } from "#lib/terminal/table.js";
import { root } from "./build_native.mjs";
import { readOptions, wrongOption } from "./options.mjs";

const objects = join(root, "build", "CMakeFiles", "moe_cpu.dir", "native", "cpu", "isa");

/** How disassembly of an architecture reads, by the name of its object format. */
const architectures = {
  "elf64-x86-64": {
    product: /^(vpdpbusd|vdpbf16ps|vfn?m(add|sub)\d+ps|vpmaddubsw)\b/,
    branch: /^j\w+\s+([0-9a-f]+)/,
    reload: /^(?!.*(broadcast|1to)).*\(%r[sb]p[,)].*%[yz]mm\d+$/,
    spill: /^vmov\w+\s+%[yz]mm\d+,-?(0x[0-9a-f]+)?\(%r[sb]p\)/,
  },
  "elf64-littleaarch64": {
    product: /^(fmla|[us]dot|bfdot|bfmmla|smlal2?)\b/,
    branch: /^(?:b\.\w+|cbnz\s+\w+,|tbnz\s+\w+, #\d+,)\s+([0-9a-f]+)/,
    reload: /^ld[rp]\s+q\d+.*\[sp/,
    spill: /^st[rp]\s+q\d+.*\[sp/,
  },
};

const usage = `Usage: npm run loops -- [--above RATIO] [--products COUNT] [--objdump PROGRAM] [--json] [TEXT...]

Lists the innermost loops with at least COUNT products (default 8) in the compiled instruction sets, or those whose names
contain TEXT, that reload more than RATIO vectors from the stack for each product (default 0.25). TEXT may also be an
object file. Needs a build (npm run setup) and objdump, for another architecture its own: --objdump aarch64-linux-gnu-objdump.`;
const { values, positionals } = readOptions(usage, {
  options: {
    above: { type: "string", default: "0.25" },
    products: { type: "string", default: "8" },
    objdump: { type: "string", default: "objdump" },
    json: { type: "boolean" },
  },
  allowPositionals: true,
});
const above = numberOf("above"),
  fewest = numberOf("products");

const found = (await Promise.all(wantedObjects().map(loopsOf))).flat();
const listed = found.filter(({ reloads, products }) => reloads > above * products);
listed.sort((a, b) => b.reloads / b.products - a.reloads / a.products || a.kernel.localeCompare(b.kernel));
if (values.json) console.log(JSON.stringify(listed, null, 2));
else print();

function numberOf(option) {
  const number = Number(values[option]);
  if (values[option].trim() === "" || !(number >= 0)) {
    wrongOption(usage, `--${option}: expected a number from 0 on, got "${values[option]}"`);
  }
  return number;
}

function wantedObjects() {
  const files = positionals.filter((text) => existsSync(text));
  const names = positionals.filter((text) => !existsSync(text));
  if (files.length > 0 && names.length === 0) return files;
  const built = existsSync(objects) ? readdirSync(objects).filter((name) => name.endsWith(".o")) : [];
  const wanted = built.filter((name) => names.length === 0 || names.some((text) => name.includes(text)));
  if (built.length === 0) fail(`expected objects in ${objects}, found none: run npm run setup first`);
  if (wanted.length === 0) {
    fail(`expected TEXT to be an object file or part of one's name (${built.join(", ")}), got ${names.join(", ")}`);
  }
  return [...files, ...wanted.map((name) => join(objects, name))];
}

/** The innermost loops with products of an object. */
async function loopsOf(object) {
  const program = spawn(values.objdump, ["--disassemble", "--demangle", "--no-show-raw-insn", object], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => {
    program.on("error", ({ message }) => resolve(message));
    program.on("close", (code) => resolve(code === 0 ? undefined : `exit code ${code}`));
  });
  const loops = [];
  let architecture,
    kernel = "",
    instructions = [];
  const endFunction = () => {
    if (architecture) loops.push(...innermostLoops(architecture, instructions).map((loop) => ({ kernel, ...loop })));
    instructions = [];
  };
  for await (const line of createInterface({ input: program.stdout })) {
    const [, format] = line.match(/file format (\S+)$/) ?? [];
    if (format)
      architecture =
        architectures[format] ?? fail(`${object}: expected ${Object.keys(architectures).join(" or ")}, got ${format}`);
    const [, symbol] = line.match(/^[0-9a-f]+ <(.*)>:$/) ?? [];
    if (symbol) {
      endFunction();
      kernel = readable(symbol);
    }
    const [, address, text] = line.match(/^\s*([0-9a-f]+):\t(.*)$/) ?? [];
    if (text) instructions.push({ address: Number.parseInt(address, 16), text: text.replaceAll("\t", " ").trim() });
  }
  endFunction();
  const failure = await ended;
  if (failure) fail(`${object}: ${values.objdump}: ${failure}`);
  return loops.map((loop) => ({ object: basename(object).replace(/\.\w+\.o$/, ""), ...loop }));
}

function innermostLoops({ product, branch, reload, spill }, instructions) {
  const indexOf = new Map(instructions.map(({ address }, index) => [address, index]));
  const loops = instructions.flatMap(({ address, text }, end) => {
    const target = Number.parseInt(text.match(branch)?.[1] ?? "", 16);
    return target <= address && indexOf.has(target) ? [{ begin: indexOf.get(target), end }] : [];
  });
  return loops
    .filter((loop) => !loops.some((other) => other !== loop && other.begin >= loop.begin && other.end <= loop.end))
    .map(({ begin, end }) => {
      const body = instructions.slice(begin, end + 1).map(({ text }) => text);
      const count = (pattern) => body.filter((text) => pattern.test(text)).length;
      return { products: count(product), reloads: count(reload), spills: count(spill), instructions: body.length };
    })
    .filter(({ products }) => products >= fewest);
}

/** Without namespaces, results and parameters. */
function readable(symbol) {
  return symbol
    .replaceAll(/moe::(cpu::(\w+::)?)?|\(anonymous namespace\)::|\((FactorOffset|ScaleType)\)/g, "")
    .replace(/^void /, "")
    .replace(/\([^()]*\)( const)?$/, "");
}

function print() {
  const number = (heading) => ({ heading, align: "right" });
  const counts = ["products", "reloads", "spills", "instructions"];
  const columns = [{ heading: "instruction set" }, { heading: "kernel" }, ...counts.map(number)];
  const short = (kernel) => (kernel.length > 110 ? `${kernel.slice(0, 60)}...${kernel.slice(-47)}` : kernel);
  const rows = listed.map((loop) => [loop.object, short(loop.kernel), ...counts.map((name) => String(loop[name]))]);
  process.stdout.write(rows.length > 0 ? renderTable(columns, rows) : "");
  console.log(
    `${found.length} innermost loops multiply; ${listed.length} of them reload more than ${above} vectors for each product`,
  );
}

function fail(message) {
  console.error(`loops: ${message}`);
  process.exit(1);
}
