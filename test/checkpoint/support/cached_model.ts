import { type Device, type LoadOptions, MoeLayer } from "../../../lib/index.js";
import { goldenModel, type Model, writeModel } from "./model_directory.js";
import { temporaryDirectory } from "./temporary_directory.js";

/** A model directory that is removed with all caches in it. */
export async function modelDirectory(name = "olmoe_small") {
  const directory = temporaryDirectory();
  const model = await goldenModel(name);
  await writeModel(directory.path, model);
  return { model, path: directory.path, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

/** Loads a layer with a cache and returns the bits that it computes for the model's tokens. */
export async function run(path: string, model: Model, device: Device, options: Partial<LoadOptions> = {}) {
  using layer = await MoeLayer.load(path, { layer: 0, device, cache: true, ...options });
  const { x: tokens, shape } = model.layerFile;
  using x = device.tensor(tokens, shape);
  using y = layer.forward(x);
  const { ids, weights } = layer.route(x);
  const status = layer.cacheStatus;
  if (status === undefined) throw new Error("expected a status of the cache");
  const { description, byteLength } = layer;
  return { status, result: [await y.raw(), await ids.raw(), await weights.raw(), description, byteLength] };
}
