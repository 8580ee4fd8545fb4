import { shapeOption } from "../../bench/shape_option.js";
import { badCheckpoint } from "../../checkpoint/bad_checkpoint.js";
import { type LayerDetails, layerDetails } from "../../checkpoint/inspect_model.js";
import { openModelFiles } from "../../checkpoint/opened/open_model_files.js";
import { messageOf } from "../../core/errors.js";
import { integerListOption, integerOption, UsageError } from "../../terminal/option_values.js";
import { layerFile } from "./layer_file.js";
import { modelDirectory } from "./model_directory.js";
import { namedShape } from "./named_shape.js";
import { seededTokens, tokensOfFile } from "./tokens.js";
import type { Workload } from "./workload.js";

/** The options of `run` that say what to run. */
export interface WorkloadOptions {
  readonly model?: string | undefined;
  readonly layer?: readonly string[] | undefined;
  readonly cache?: string | undefined;
  readonly file?: string | undefined;
  readonly shape?: string | undefined;
  readonly seed?: string | undefined;
  readonly tokens?: string | undefined;
  readonly input?: string | undefined;
  readonly "token-format"?: string | undefined;
  readonly compare?: string | undefined;
}

/** Refuses options that would have no effect, and asks for those that are missing; throws UsageError. */
export function checkWorkloadOptions(options: WorkloadOptions): void {
  const { model, layer, cache, file, shape, seed, tokens, input, "token-format": tokenFormat, compare } = options;
  const refuse = (name: string, given: unknown, problem: string): void => {
    if (given !== undefined) throw new UsageError(`--${name} ${problem}`);
  };
  if ([model, file, shape].filter((source) => source !== undefined).length !== 1) {
    throw new UsageError("expected one of --model, --file and --shape");
  }
  if (model === undefined) {
    refuse("cache", cache, "requires --model DIR");
    refuse("layer", layer, "requires --model DIR");
    refuse("compare", compare, "requires --model DIR");
    if (tokenFormat === "checkpoint") refuse("token-format", tokenFormat, "checkpoint requires --model DIR");
  }
  if (file !== undefined) {
    for (const [name, given] of Object.entries({ input, tokens, seed })) {
      refuse(name, given, "cannot be combined with --file: a layer file has its own tokens and weights");
    }
  }
  if (input !== undefined) {
    refuse("tokens", tokens, "cannot be combined with --input: all of its tokens are used");
    if (model !== undefined) refuse("seed", seed, "cannot be combined with --model and --input: nothing is random");
  }
}

/** The layers to run, and what they are together. */
export interface Workloads {
  readonly title: string;
  readonly workloads: readonly Workload[];
}

/** @throws UsageError; the errors of {@link openModelFiles} and of the files that are named. */
export async function openWorkloads(options: WorkloadOptions): Promise<Workloads> {
  const { model, cache, file, shape, input } = options;
  if (file !== undefined) return alone(await layerFile(file));
  const seed = integerOption("seed", options.seed ?? "0", 0);
  const count = integerOption("tokens", options.tokens ?? "256", 0);
  const named = integerListOption("layer", options.layer, 0);
  const known = shape === undefined ? undefined : shapeOption(shape);
  const tokens = input === undefined ? seededTokens(count, seed) : await tokensOfFile(input);
  if (known !== undefined) return alone(namedShape(known, seed, tokens));
  const directory = model as string;
  const layers = await layersToRun(directory, named);
  if (options.compare !== undefined) {
    await checkOriginal(
      options.compare,
      layers.map(({ layer }) => layer),
    );
  }
  if (layers.length > 1 && tokens.expectation !== undefined) {
    throw new UsageError(`--input: ${input} has the expected output of one layer; say which by --layer N`);
  }
  const cached = cache === "" ? true : (cache ?? false);
  const workloads = layers.map(({ layer, details }) =>
    modelDirectory(directory, layer, tokens, { cache: cached, original: options.compare }, details),
  );
  const [only] = workloads;
  return only !== undefined && workloads.length === 1 ? alone(only) : { title: directory, workloads };
}

/** The named layers, or all with experts; those that the model does not have are refused before any is run. */
async function layersToRun(
  directory: string,
  named: readonly number[],
): Promise<readonly { readonly layer: number; readonly details: LayerDetails }[]> {
  await using opened = await openModelFiles(directory);
  const { formula } = opened;
  const layers = named.length > 0 ? named.map((layer) => formula.checkLayer(layer)) : formula.layersWithExperts();
  if (layers.length === 0) {
    throw badCheckpoint(directory, `expected layers with experts, got ${formula.layerCount} dense layers`);
  }
  return layers.map((layer) => ({ layer, details: layerDetails(formula.config(layer), formula.tensors(layer)) }));
}

/** Refuses a model to compare with that lacks one of the layers. */
async function checkOriginal(directory: string, layers: readonly number[]): Promise<void> {
  await using opened = await openModelFiles(directory);
  try {
    for (const layer of layers) opened.formula.checkLayer(layer);
  } catch (cause) {
    throw new UsageError(`--compare: ${directory}: ${messageOf(cause)}`, { cause });
  }
}

function alone(workload: Workload): Workloads {
  return { title: workload.title, workloads: [workload] };
}
