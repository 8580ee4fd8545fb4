import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseSafetensors, SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Device, MoeLayer, openDevice } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { Draw } from "./draw.js";
import { damaged, damagedHeader, damagedJson } from "./mutations.js";
import { Failure, type Outcome, refusedOr, type Step } from "./step.js";

/** Largest error of a layer's output with the routing given, by the dtype of its experts. */
const tolerances: Readonly<Record<FloatDType, number>> = { f64: 1e-12, f32: 1e-5, f16: 3e-3, bf16: 2e-2 };

const tokens = 5;
/** One of padding; a damaged configuration may say any size of a vocabulary. */
const tokenIds = [0, -1, 0, 0, 0];

/** A model that loads as it is: a directory, and the number of a layer with experts; or a layer file. */
export interface FoundModel {
  readonly path: string;
  readonly layer: number | undefined;
}

/** Input scales and orders, for which only `reference` has kernels. */
const withInputs = ["int4_packed_ordered", "int4_modelopt", "gptq_act_order", "nvfp4_modelopt_awq"];

export function findModels(golden: string): FoundModel[] {
  const families = join(golden, "families");
  const directories = readdirSync(families).map((name) => {
    const path = join(families, name);
    const { metadata } = parseSafetensors(Uint8Array.from(readFileSync(join(path, "expected.safetensors"))));
    return { path, layer: Number(metadata.layer) };
  });
  const quantised = readdirSync(join(golden, "quantised"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !withInputs.includes(entry.name))
    .map(({ name }) => ({ path: join(golden, "quantised", name), layer: 0 }));
  return [
    ...directories,
    ...quantised,
    { path: join(golden, "mixtral", "mixtral_small.safetensors"), layer: undefined },
  ];
}

/** A model as it is, damaged, or with a damaged cache of its packed weights; `folder` is for copies. */
export function fileStep(draw: Draw, models: readonly FoundModel[], folder: string): Step {
  const model = draw.pick(models);
  const kind = draw.pick(["whole", "whole", "damaged", "damaged", "damaged", "cache"] as const);
  const seed = String(draw.integer(0, 2 ** 32));
  const source = `${kind} model ${model.path}, layer ${model.layer}, seed ${seed}`;
  const run = (device: Device) => {
    const copy = { ...model, path: copyOf(model.path, folder) };
    if (kind === "whole") return compareLoaded(copy, device);
    const again = new Draw(seed);
    if (kind === "cache" && copy.layer !== undefined) return loadCached(again, copy, device);
    const file = damageFile(again, copy.path);
    return refusedOr(() => loadDamaged(copy, file, device));
  };
  return { source, run };
}

function copyOf(model: string, folder: string): string {
  rmSync(folder, { recursive: true, force: true });
  const path = model.endsWith(".safetensors") ? join(folder, "layer.safetensors") : folder;
  mkdirSync(folder, { recursive: true });
  cpSync(model, path, { recursive: true });
  return path;
}

/** Damages one file of a model, and returns its path. */
function damageFile(draw: Draw, path: string): string {
  const names = statSync(path).isDirectory() ? readdirSync(path).filter((name) => !name.startsWith("expected")) : [];
  const file = names.length === 0 ? path : join(path, draw.pick(names.sort()));
  const bytes = Uint8Array.from(readFileSync(file));
  if (draw.chance(0.5)) writeFileSync(file, damaged(draw, bytes));
  else if (file.endsWith(".json")) writeFileSync(file, damagedJson(draw, new TextDecoder().decode(bytes)));
  else writeFileSync(file, damagedHeader(draw, bytes));
  return file;
}

async function load({ path, layer }: FoundModel, device: Device, cache = false): Promise<MoeLayer> {
  if (layer === undefined) return await MoeLayer.load(path, { device });
  return await MoeLayer.load(path, { layer, device, cache });
}

async function forward(layer: MoeLayer): Promise<Float32Array> {
  const { hiddenSize, weightDType, separateRouterInput, hashRouting } = layer.description;
  const dtype = weightDType as FloatDType;
  using x = layer.device.tensor(new Random("tokens").normals(tokens * hiddenSize), [tokens, hiddenSize], dtype);
  const own = { ...(separateRouterInput && { routerInput: x }), ...(hashRouting && { tokenIds }) };
  using y = layer.forward(x, own);
  return (await y.data()) as Float32Array;
}

/** What a file that is damaged gives: an error, or a layer that can be used. */
async function loadDamaged(model: FoundModel, file: string, device: Device): Promise<Outcome> {
  if (file.endsWith(".safetensors")) {
    const bytes = Uint8Array.from(readFileSync(file));
    const parsed = await refusedOr(async () => parseSafetensors(bytes) && "accepted");
    const read = await refusedOr(() => readAll(file));
    if (parsed !== read) throw new Failure(`in memory the file is ${parsed}, on disk ${read}`);
  }
  using layer = await load(model, device);
  await forward(layer);
  return "accepted";
}

async function readAll(file: string): Promise<Outcome> {
  await using opened = await SafetensorsFile.open(file);
  for (const name of opened.tensors.keys()) await opened.read(name);
  return "accepted";
}

/** A whole model gives on every device what it gives on `reference`, by the same routing. */
async function compareLoaded(model: FoundModel, device: Device): Promise<Outcome> {
  using reference = openDevice("reference");
  using expected = await load(model, reference);
  using layer = await load(model, device);
  const { hiddenSize, weightDType, hashRouting } = expected.description;
  const dtype = weightDType as FloatDType;
  const values = new Random("tokens").normals(tokens * hiddenSize);
  const x = reference.tensor(values, [tokens, hiddenSize], dtype);
  const { ids, weights } = expected.route(x, hashRouting ? { tokenIds } : {});
  const routing = {
    ids: device.tensor(await ids.data(), ids.shape, "i32"),
    weights: device.tensor(await weights.data(), weights.shape, "f32"),
  };
  const wanted = await expected.forward(x, { routing: { ids, weights } }).data();
  const actual = await layer.forward(device.tensor(values, [tokens, hiddenSize], dtype), { routing }).data();
  const error = relativeError(actual, wanted);
  if (error <= tolerances[dtype]) return "compared";
  throw new Failure(`output off by ${error}, tolerance ${tolerances[dtype]}`);
}

/** A damaged cache is noticed, or makes no difference. */
async function loadCached(draw: Draw, model: FoundModel, device: Device): Promise<Outcome> {
  const first = await load(model, device, true);
  const wanted = await forward(first);
  first.dispose();
  const folder = join(model.path, ".moe-kernels");
  const [file] = existsSync(folder) ? readdirSync(folder) : [];
  if (file === undefined) return "accepted"; // a device without a cache
  const bytes = Uint8Array.from(readFileSync(join(folder, file)));
  writeFileSync(join(folder, file), draw.chance(0.3) ? damagedHeader(draw, bytes) : damaged(draw, bytes));
  return refusedOr(async () => {
    using again = await load(model, device, true);
    const actual = await forward(again);
    if (wanted.every((value, index) => Object.is(value, actual[index]))) return "compared";
    throw new Failure("a damaged cache changes the output");
  });
}
