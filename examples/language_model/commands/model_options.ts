import type { Device } from "moe-kernels";
import { connectBanks } from "moe-kernels/parallel";
import { type Defaults, deviceHelp, deviceOptions, type Values } from "../../common/command.js";
import { LanguageModel } from "../model/language_model.js";
import { readGgufTokenizer } from "../text/gguf_tokenizer.js";
import { readTokenizerFiles, TextTokenizer } from "../text/tokenizer.js";
import { givenFormats, tokenFormatHelp } from "./format_options.js";

/** Options of a model and its device. */
export const modelOptions = {
  ...deviceOptions,
  model: undefined,
  tokenizer: undefined,
  dtype: undefined,
  servers: undefined,
  "token-format": "none",
} satisfies Defaults;
export const modelHelp = `  --model PATH           a directory with config.json, safetensors and tokenizer.json, or a GGUF file
  --tokenizer PATH       a directory with tokenizer.json, or a GGUF file (the model)
  --dtype FORMAT         format of the experts, such as int4_g32 (that of the files)
${tokenFormatHelp}  --servers ADDRESSES    servers of \`moe-kernels serve\` with some of the experts, comma-separated; the others are loaded
                         here (all)
${deviceHelp}`;

/** The value of --model. */
export function givenPath(values: Values): string {
  return values.needed("model", "the directory of a model, or a GGUF file");
}

export async function readGivenTokenizer(values: Values): Promise<TextTokenizer> {
  const path = values.text("tokenizer") ?? givenPath(values);
  return new TextTokenizer(await (path.endsWith(".gguf") ? readGgufTokenizer(path) : readTokenizerFiles(path)));
}

/** The model, with what it needs of servers of experts; connections end with the process. */
export async function loadGivenModel(values: Values, device: Device): Promise<LanguageModel> {
  const addresses = values.text("servers")?.split(",") ?? [];
  const servers = await Promise.all(addresses.map((address) => connectBanks(address)));
  return await LanguageModel.load(device, givenPath(values), {
    ...givenFormats(values),
    servers,
    onProgress: (loaded, layers) => process.stderr.write(`${loaded} of ${layers} layers\n`),
  });
}
