import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseHeader } from "../../lib/checkpoint/gguf/header.js";
import { SplitGguf } from "../../lib/checkpoint/gguf/index.js";
import { ggufLocator } from "../../lib/checkpoint/gguf/locate.js";
import { GgufModel } from "../../lib/checkpoint/gguf/model.js";
import { locateLayer } from "../../lib/checkpoint/locate/locate_layer.js";
import type { LocatedWeight } from "../../lib/checkpoint/locate/located_weight.js";
import {
  parseSafetensors,
  SafetensorsFile,
  type SafetensorsInput,
  ShardedCheckpoint,
  serializeSafetensors,
} from "../../lib/checkpoint/safetensors/index.js";
import { shapeSize } from "../../lib/core/tensors/shape.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { type LayerType, randomLayer } from "../checkpoint/support/gguf_layer.js";
import { rawGguf } from "../support/gguf.js";
import { mutated } from "../support/mutations.js";
import { withAllocationLimit } from "./allocations.js";
import type { Draw } from "./draw.js";
import { damaged, damagedHeader, damagedJson } from "./mutations.js";
import { Failure, type Outcome, refusedOr, type Step } from "./step.js";

// Damaged files, through the readers alone: no device, so that very many can be tried.

/** Most bytes that a reader may ask for at once, for a file of this size: some blocks become float32. */
const allocationLimit = (fileBytes: number) => 2 ** 21 + 16 * fileBytes;

/** One mutant of a file or of an index; `files` is written to `folder`. */
function readerStep(source: string, bytes: Uint8Array, read: () => Promise<Outcome>): Step {
  const run = () => withAllocationLimit(allocationLimit(bytes.length), () => refusedOr(read));
  return { source: `${source}: ${Buffer.from(bytes.subarray(0, 4096)).toString("base64")}`, run };
}

function writeBytes(path: string, bytes: Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
}

/** In memory and on disk the same must come of a file. */
async function agree(parse: () => unknown, read: () => Promise<Outcome>): Promise<Outcome> {
  const parsed = await refusedOr(async () => {
    parse();
    return "accepted";
  });
  const opened = await refusedOr(read);
  if (parsed === opened) return opened;
  throw new Failure(`in memory the file is ${parsed}, on disk ${opened}`);
}

const dtypes = ["F64", "I64", "F32", "I32", "F16", "BF16", "F8_E4M3", "U8", "BOOL"] as const;

/** A safetensors file whose header is damaged, or the index of a sharded checkpoint. */
export function safetensorsReaderStep(draw: Draw, folder: string): Step {
  const tensors = new Map<string, SafetensorsInput>();
  for (let index = draw.integer(0, 6); index > 0; index--) {
    const dtype = draw.pick(dtypes);
    const shape = Array.from({ length: draw.integer(0, 3) }, () => draw.integer(0, 4));
    const elements = shapeSize(shape);
    const size = Number(/\d+/.exec(dtype)?.[0] ?? 8) / 8;
    tensors.set(`${draw.pick(["w", "model.layers.0.", "é"])}${index}`, {
      dtype,
      shape,
      data: new Uint8Array(elements * size),
    });
  }
  if (draw.chance(0.15)) return indexStep(draw, folder, tensors);
  const alignment = draw.pick([8, 8, 64, 4096]);
  const whole = serializeSafetensors(tensors, { metadata: draw.some({ format: "pt", x: '{"y": 1}' }), alignment });
  const bytes = draw.chance(0.6) ? damagedHeader(draw, whole) : damaged(draw, whole);
  const path = join(folder, "mutant.safetensors");
  return readerStep("safetensors file", bytes, async () => {
    writeBytes(path, bytes);
    return await agree(
      () => parseSafetensors(bytes),
      async () => {
        await using file = await SafetensorsFile.open(path);
        for (const name of file.tensors.keys()) await file.read(name);
        return "accepted";
      },
    );
  });
}

function indexStep(draw: Draw, folder: string, tensors: ReadonlyMap<string, SafetensorsInput>): Step {
  const shard = "model-00001-of-00001.safetensors";
  const weightMap = Object.fromEntries([...tensors.keys()].map((name) => [name, shard]));
  const text = JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap });
  const bytes = draw.chance(0.6) ? Buffer.from(damagedJson(draw, text)) : damaged(draw, Buffer.from(text));
  const directory = join(folder, "sharded");
  return readerStep("index", bytes, async () => {
    writeBytes(join(directory, shard), serializeSafetensors(tensors));
    writeBytes(join(directory, "model.safetensors.index.json"), bytes);
    await using checkpoint = await ShardedCheckpoint.open(directory);
    for (const name of checkpoint.shards.keys()) await (await checkpoint.fileOf(name)).read(name);
    return "accepted";
  });
}

const types: readonly LayerType[] = [
  "F32",
  "F16",
  "Q4_0",
  "Q4_1",
  "Q5_0",
  "Q5_1",
  "Q8_0",
  "IQ4_NL",
  "MXFP4",
  "NVFP4",
  "Q2_0",
];
const largeTypes: readonly LayerType[] = [
  "Q2_K",
  "Q3_K",
  "Q4_K",
  "Q5_K",
  "Q6_K",
  "IQ4_XS",
  "IQ1_M",
  "IQ2_XXS",
  "IQ3_S",
  "TQ1_0",
];

/** Metadata that models have besides what their layers need. */
const otherMetadata = {
  "general.name": "a model",
  "general.alignment": 32,
  "tokenizer.ggml.tokens": ["a", "b", "", "long enough to be cut"],
  "tokenizer.ggml.scores": { type: "array", of: "f32", value: [0, -1, 1e9] },
  "tokenizer.ggml.token_type": { type: "array", of: "i32", value: [1, 2, 3] },
  "tokenizer.ggml.add_bos_token": true,
  "split.count": { type: "u16", value: 1 },
  "split.no": { type: "u16", value: 0 },
  flags: [true, false],
  big: 2n ** 60n,
} as const;

/** A GGUF file of a small layer, damaged in a few places, up to the codes and scales of its weights. */
export function ggufReaderStep(draw: Draw, folder: string): Step {
  const large = draw.chance(0.1);
  const size = large ? 256 : 64;
  const layer = {
    hidden: size,
    inner: size,
    experts: large ? 1 : 2,
    gate: draw.pick(large ? largeTypes : types),
    down: draw.pick(large ? largeTypes : types),
    shared: !large && draw.chance(0.3) ? 64 : 0,
    metadata: draw.some(otherMetadata),
  };
  const whole = rawGguf(randomLayer(new Random(String(draw.integer(0, 2 ** 32))), layer).file);
  // Most damage is to the header, which is a small part of the file.
  const header = Math.min(whole.length, draw.chance(0.8) ? 1024 : whole.length);
  const bytes = Buffer.concat([mutated(whole.subarray(0, header), draw.integer(0, 2 ** 32)), whole.subarray(header)]);
  const path = join(folder, "mutant.gguf");
  return readerStep("GGUF file", bytes, async () => {
    writeBytes(path, bytes);
    // Only a split file may be accepted alone and refused with the others, which are not there.
    const split = bytes.includes("split.");
    const read = () => readGguf(path);
    const outcome = split ? await refusedOr(read) : await agree(() => parseHeader("in memory", bytes), read);
    return outcome === "accepted" ? await refusedOr(() => readLayers(path)) : outcome;
  });
}

async function readGguf(path: string): Promise<Outcome> {
  await using files = await SplitGguf.open(path);
  for (const name of files.names) await files.fileOf(name).read(name);
  return "accepted";
}

/** Reads what a layer is loaded from, and converts its blocks. */
async function readLayers(path: string): Promise<Outcome> {
  await using files = await SplitGguf.open(path);
  const model = new GgufModel(files);
  for (const layer of model.layersWithExperts()) {
    const [config, tensors] = [model.config(layer), model.tensors(layer)];
    const { router, experts, shared } = await locateLayer({
      config,
      tensors,
      locate: ggufLocator({ files, origin: path, tensors }),
    });
    for (const weight of [router, ...[...experts, ...(shared ? [shared] : [])].flatMap((one) => Object.values(one))]) {
      await convertWeight(weight);
    }
  }
  return "accepted";
}

async function convertWeight({ ranges, convert }: LocatedWeight): Promise<void> {
  const parts: Uint8Array[] = [];
  for (const { file, name, byteOffset, byteLength } of ranges) {
    const part = new Uint8Array(byteLength);
    await file.readRange(name, byteOffset, part);
    parts.push(part);
  }
  convert?.(parts);
}
