import { badCheckpoint } from "../../checkpoint/bad_checkpoint.js";
import { type ReadLayer, type RefusedLayer, readLayers } from "../../checkpoint/inspect/read_layers.js";
import { checkLayers } from "../../checkpoint/layers_with_experts.js";
import type { LoadOptions } from "../../checkpoint/load/load_layer.js";
import type { OpenedModel } from "../../checkpoint/opened/model_files.js";
import { openModelFiles } from "../../checkpoint/opened/open_model_files.js";
import type { QuantMethod } from "../../checkpoint/schemes/quantization.js";
import { messageOf } from "../../core/errors.js";
import { MoeModel } from "../../moe_model.js";
import { UsageError } from "../../terminal/option_values.js";
import type { TokenSource } from "./tokens.js";
import type { Workload, Workloads } from "./workload.js";

interface ModelOptions {
  /** The layers to run; all with experts if it is empty. */
  readonly layers: readonly number[];
  /** As in {@link MoeLayer.load}. */
  readonly cache: NonNullable<LoadOptions["cache"]>;
  /** The model with whose layers they are compared. */
  readonly original: string | undefined;
  /** As in {@link openModel}. */
  readonly quantMethod?: QuantMethod | undefined;
}

/**
 * Layers of a model, which is opened once, as is the one to compare with.
 * @throws UsageError if that lacks one of the layers; INVALID_ARGUMENT if the model itself does; BAD_CHECKPOINT, also if a
 * layer is refused that was named, or if all are.
 */
export async function modelDirectory(
  directory: string,
  { layers: named, cache, original: other, quantMethod }: ModelOptions,
  tokens: TokenSource,
): Promise<Workloads> {
  const opened = await openModelFiles(directory, { quantMethod });
  let original: OpenedModel | undefined;
  const close = async () => {
    await original?.[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
  };
  try {
    const { read, refused } = layersToRun(directory, opened, named);
    if (other !== undefined) {
      original = await openModelFiles(other);
      checkOriginal(original, read);
    }
    const sources = { model: new MoeModel(opened), original: original && new MoeModel(original), cache };
    const workloads = read.map((layer) => layerOfModel(sources, layer, tokens));
    const [only] = workloads;
    const title = only !== undefined && workloads.length === 1 ? only.title : directory;
    return { title, workloads, refused, leavesOutRefused: named.length === 0, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The named layers, or all with experts; those that the model does not have are refused before any is run. */
function layersToRun(
  directory: string,
  { formula }: OpenedModel,
  named: readonly number[],
): { readonly read: readonly ReadLayer[]; readonly refused: readonly RefusedLayer[] } {
  const layers = named.length > 0 ? checkLayers(formula, named) : formula.layersWithExperts();
  if (layers.length === 0) {
    throw badCheckpoint(directory, `expected layers with experts, got ${formula.layerCount} dense layers`);
  }
  const { read, refused } = readLayers(formula, layers);
  const [first] = refused;
  if (first !== undefined && (named.length > 0 || read.length === 0)) throw first.error;
  return { read, refused };
}

/** Refuses a model to compare with that lacks one of the layers. */
function checkOriginal({ files, formula }: OpenedModel, layers: readonly ReadLayer[]): void {
  try {
    for (const { layer } of layers) formula.checkLayer(layer);
  } catch (cause) {
    throw new UsageError(`--compare: ${files.path}: ${messageOf(cause)}`, { cause });
  }
}

function layerOfModel(
  { model, original, cache }: { model: MoeModel; original: MoeModel | undefined } & Pick<ModelOptions, "cache">,
  { layer, details }: ReadLayer,
  tokens: TokenSource,
): Workload {
  return {
    title: `layer ${layer} of ${model.path}`,
    layer: `layer ${layer}`,
    number: layer,
    details,
    ...(original && { original: { model: original.path, load: (device) => original.load(layer, { device }) } }),
    load: (device, { dtype, tokenFormat }, onProgress) =>
      model.load(layer, {
        device,
        cache,
        ...(dtype && { dtype }),
        ...(tokenFormat && { tokenFormat }),
        onProgress: ({ bytesRead, bytesTotal }) => onProgress(bytesRead / bytesTotal),
      }),
    ...tokens,
  };
}
