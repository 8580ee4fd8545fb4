import { explainPath } from "../remedies.js";
import type { QuantMethod } from "../schemes/quantization.js";
import { directoryFormula, openDirectory } from "./directory.js";
import { ggufFormula, openGguf } from "./gguf.js";
import { type GivenLayer, givenFormula } from "./given_layer.js";
import type { ModelFiles, ModelFormula, OpenedModel } from "./model_files.js";
import { layerFileFormula, openSingleFile } from "./single_file.js";

/** How a model's files are opened. */
export interface OpenOptions {
  readonly signal?: AbortSignal | undefined;
  /** The method that quantised the weights of a model directory, in place of the one that it names. */
  readonly quantMethod?: QuantMethod | undefined;
  /** The formula of a layer, where the files do not say that or its family is not known. */
  readonly given?: GivenLayer | undefined;
}

/**
 * Opens a Hugging Face model directory, a GGUF file NAME.gguf (of a model in several, the first) or a layer file
 * NAME.safetensors.
 * @throws BAD_CHECKPOINT, which tells what to do if something else is at the path that people take for a model.
 */
export async function openModelFiles(path: string, options: OpenOptions = {}): Promise<OpenedModel> {
  try {
    return await open(path, options);
  } catch (error) {
    throw await explainPath(path, error);
  }
}

async function open(path: string, { signal, quantMethod, given }: OpenOptions): Promise<OpenedModel> {
  if (path.endsWith(".gguf")) return await described(await openGguf(path, signal), given, ggufFormula);
  if (path.endsWith(".safetensors")) {
    return await described(await openSingleFile(path, signal), given, layerFileFormula);
  }
  return await described(await openDirectory(path, { signal, quantMethod }), given, directoryFormula);
}

/** Files with what their layers compute; closes them if that cannot be told. */
async function described<Files extends ModelFiles>(
  files: Files,
  given: GivenLayer | undefined,
  formulaOf: (files: Files) => ModelFormula | Promise<ModelFormula>,
): Promise<OpenedModel> {
  try {
    const formula = given === undefined ? await formulaOf(files) : givenFormula(files.path, given);
    return { files, formula, [Symbol.asyncDispose]: () => files[Symbol.asyncDispose]() };
  } catch (error) {
    await files[Symbol.asyncDispose]();
    throw error;
  }
}
