import { styleText } from "node:util";
import type { GroupStorage, LayerGroup, ModelInspection, WeightMemory } from "../checkpoint/inspect/inspect_model.js";
import type { StoredRole } from "../checkpoint/inspect/inspect_storage.js";
import type { RefusedLayers } from "../checkpoint/inspect/read_layers.js";
import { isNumbered } from "../checkpoint/locate/locate_layer.js";
import { bitsPerWeight, findFormat, mostBitsPerWeight } from "../core/formats/weight_formats.js";
import { shapeText } from "../core/tensors/shape.js";
import { printable } from "../core/text/printable.js";
import { expertsWithWeights } from "../layer/description/identity_experts.js";
import { formatBytes, formatCount, plural, significant } from "../terminal/format.js";
import type { Output } from "../terminal/output.js";
import { passMark } from "../terminal/pass_mark.js";
import { formatRanges } from "../terminal/ranges.js";
import { renderTable } from "../terminal/table.js";
import type { Io } from "./io.js";
import { layerInWords, storageInWords } from "./layer_in_words.js";

/** How many missing names, and how many problems, are listed. */
const shown = 8;

/** Prints a model's MoE layers. */
export function printModelInspection(model: ModelInspection, { stdout }: Io): void {
  const { path, family, layerCount, layersWithExperts, quantization, tokens, whyNoWeights, groups, refused } = model;
  stdout.write(`${printable(path)}: ${family}, ${layersInWords(layersWithExperts, layerCount)}\n`);
  if (quantization !== null) stdout.write(`weights are quantised by ${printable(quantization)}\n`);
  if (tokens !== null) stdout.write(`tokens of its experts, with tokenFormat "checkpoint": ${printable(tokens)}\n`);
  if (whyNoWeights !== "") {
    stdout.write(`no weights found: everything below is from config.json (${printable(whyNoWeights)})\n`);
  }
  for (const group of groups) printGroup(group, stdout);
  printRefused(refused, "cannot be loaded", stdout);
}

/** Prints layers that loading refuses, with what came of it and the reason. */
export function printRefused(refused: readonly RefusedLayers[], outcome: string, stdout: Output): void {
  for (const { layers, reason } of refused) {
    stdout.write(`\n${heading(layers, stdout)}\n${passMark(false, stdout)} ${outcome}:\n  ${printable(reason)}\n`);
  }
}

function heading(layers: readonly number[], stdout: Output): string {
  const text = layers.length === 1 ? `Layer ${layers[0]}` : `Layers ${formatRanges(layers)}`;
  return styleText("bold", text, { stream: stdout });
}

function layersInWords(withExperts: readonly number[], count: number): string {
  const which = withExperts.length === count ? "all" : `${withExperts.length} of them`;
  return `${plural(count, "layer")}, ${which} with experts: ${formatRanges(withExperts)}`;
}

function printGroup(group: LayerGroup, stdout: Output): void {
  const { layers, description, details, storage } = group;
  stdout.write(`\n${heading(layers, stdout)}\n${layerInWords(description, details)}\n`);
  stdout.write(`${memoryTable(group)}\n`);
  stdout.write(`${batchTable(group)}\n`);
  if (storage !== null) printStorage(storage, stdout);
}

function memoryTable({ layers, parameters, stored, f32, bf16 }: LayerGroup): string {
  const memories: readonly WeightMemory[] = [...(stored ? [stored] : []), f32, bf16];
  const bytes = (field: "expertBytes" | "layerBytes" | "allBytes") =>
    memories.map((memory) => formatBytes(memory[field]));
  const headings = [...(stored ? [`stored, ${stored.dtype}`] : []), "in f32", "in bf16"];
  return renderTable(
    [
      { heading: "weights" },
      { heading: "parameters", align: "right" },
      ...headings.map((heading) => ({ heading, align: "right" as const })),
    ],
    [
      ["one expert", formatCount(parameters.expert), ...bytes("expertBytes")],
      ["one layer", formatCount(parameters.layer), ...bytes("layerBytes")],
      ["  of these for one token", formatCount(parameters.active)],
      [plural(layers.length, "layer"), formatCount(layers.length * parameters.layer), ...bytes("allBytes")],
    ],
  );
}

function batchTable({ batches, description }: LayerGroup): string {
  const right = (heading: string) => ({ heading, align: "right" as const });
  const table = renderTable(
    [
      right("tokens"),
      right("experts touched"),
      right("bytes moved"),
      right("per token"),
      right("MFLOP per token"),
      right("FLOP per byte"),
    ],
    batches.map((batch) => [
      String(batch.tokens),
      `${significant(batch.touchedExperts)} of ${expertsWithWeights(description)}`,
      formatBytes(batch.bytes),
      formatBytes(batch.bytesPerToken),
      significant(batch.operationsPerToken / 1e6),
      significant(batch.operationsPerByte),
    ]),
  );
  const dropped = description.capacity ? ", none dropped" : "";
  return `One layer in ${storageInWords(description)}, all choices of experts equally likely${dropped}:\n${table}`;
}

function printStorage({ roles, tensorCount, missing, problems }: GroupStorage, stdout: Output): void {
  stdout.write(
    renderTable(
      [
        { heading: "weight" },
        { heading: "tensor" },
        { heading: "shape" },
        { heading: "format" },
        { heading: "bits", align: "right" },
        { heading: "layout" },
      ],
      roles.map((role) => [
        role.role,
        role.name,
        shapeText(role.shape),
        role.formats.join(", ") || "missing",
        role.bits === null ? "" : significant(role.bits),
        layoutInWords(role),
      ]),
    ),
  );
  for (const line of grownFormats(roles)) stdout.write(`${line}\n`);
  stdout.write("\n");
  const there = tensorCount - missing.length;
  stdout.write(`${passMark(missing.length === 0, stdout)} ${there} of ${plural(tensorCount, "tensor")} found\n`);
  printSome(
    missing.map((name) => `missing: ${name}`),
    stdout,
  );
  if (problems.length > 0) stdout.write(`${passMark(false, stdout)} cannot be loaded:\n`);
  printSome(problems, stdout);
}

/** The formats that take more memory than bytes in files. */
function grownFormats(roles: GroupStorage["roles"]): readonly string[] {
  const lines = roles.flatMap(({ formats: [name = ""], bits, shape }) => {
    const format = findFormat(name);
    if (format === undefined || bits === null) return [];
    const columns = shape.at(-1) as number;
    const [least, most] = [bitsPerWeight(format, columns), mostBitsPerWeight(format, columns)];
    if (most <= 1.05 * bits) return [];
    const fewer = least < most ? `, on CPUs with AVX-512 VBMI ${significant(least)}` : "";
    return [`loaded, ${name} takes ${significant(most)} bits a weight${fewer}`];
  });
  return [...new Set(lines)];
}

function printSome(lines: readonly string[], stdout: Output): void {
  for (const line of lines.slice(0, shown)) stdout.write(`  ${printable(line)}\n`);
  if (lines.length > shown) stdout.write(`  and ${lines.length - shown} more\n`);
}

function layoutInWords({ name, layout: { stacked, orient, part } }: StoredRole): string {
  return [
    isNumbered(name) ? "one per expert" : "",
    stacked === "dim0" ? "experts stacked" : stacked === "rows" ? "experts' rows concatenated" : "",
    orient === "in_out" ? "transposed" : "",
    part === undefined ? "" : { first_half: "first half", second_half: "second half", even: "even", odd: "odd" }[part],
  ]
    .filter((word) => word !== "")
    .join(", ");
}
