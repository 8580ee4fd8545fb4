import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { messageOf } from "../../../core/errors.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import { fileSystemError } from "../../file_system_error.js";
import type { MetadataInput } from "../../gguf/write/header.js";
import { isRecord, type JsonObject } from "../../safetensors/strict_json.js";
import { textSplits } from "./text_splits.js";

/** A model's tokenizer as metadata of GGUF, or why there is none. */
export interface WrittenTokenizer {
  readonly metadata: ReadonlyMap<string, MetadataInput>;
  /** Empty if it is there. */
  readonly whyNone: string;
}

/** What llama.cpp's converter calls tokens of a tokenizer that splits texts in some way, besides what its settings say. */
const namedTokens: ReadonlyMap<string, Readonly<Record<string, string>>> = new Map([
  ["glm4", { bos: "[gMASK]", eot: "<|user|>", unknown: "<|endoftext|>", eom: "<|observation|>" }],
]);

/** LLAMA_TOKEN_TYPE_... of llama.cpp. */
const types = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

/**
 * Reads tokenizer.json and what goes with it. Tokenizers that merge bytes are written, if llama.cpp splits texts as they do.
 * @param vocabulary how many tokens the model has; those that the tokenizer lacks get a name.
 * @throws BAD_CHECKPOINT for files that are not JSON.
 */
export async function readTokenizer(directory: string, vocabulary: number): Promise<WrittenTokenizer> {
  const tokenizer = await readJson(directory, "tokenizer.json");
  if (tokenizer === undefined) return none("there is no tokenizer.json");
  const { model, normalizer, pre_tokenizer: splitting } = tokenizer;
  const merges = isRecord(model) && model.type === "BPE" && !model.byte_fallback && !model.ignore_merges;
  if (!merges || !isRecord(model.vocab) || !Array.isArray(model.merges)) {
    return none("tokenizer.json: expected a model that merges bytes");
  }
  if (normalizersOf(normalizer).some((one) => one.type !== "NFC")) {
    return none("tokenizer.json: expected no normalizer but NFC");
  }
  const split = splitOf(splitting);
  if (split === undefined) return none("tokenizer.json: llama.cpp has no name for how it splits texts");
  const tokens: string[] = [];
  const kinds = new Int32Array(vocabulary).fill(types.unused);
  const set = (token: string, id: unknown, kind: number) => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocabulary) return false;
    tokens[id as number] = token;
    kinds[id as number] = kind;
    return true;
  };
  const added = Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens.filter(isRecord) : [];
  const fit =
    Object.entries(model.vocab).every(([token, id]) => set(token, id, types.normal)) &&
    added.every(({ content, id, special }) => set(String(content), id, special ? types.control : types.userDefined));
  if (!fit) return none(`tokenizer.json: expected ids below vocab_size, which is ${vocabulary}`);
  for (let id = 0; id < vocabulary; id++) tokens[id] ??= `[PAD${id}]`;
  const settings = (await readJson(directory, "tokenizer_config.json")) ?? {};
  const template = (await readText(join(directory, "chat_template.jinja"))) ?? settings.chat_template;
  const metadata = new Map<string, MetadataInput>([
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", split],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", kinds],
    ["tokenizer.ggml.merges", model.merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : String(pair)))],
  ]);
  const { bos, eos, ...others }: Readonly<Record<string, unknown>> = {
    ...Object.fromEntries(["bos", "eos"].map((name) => [name, contentOf(settings[`${name}_token`])])),
    ...namedTokens.get(split),
  };
  const idOf = (token: unknown) => (typeof token === "string" ? tokens.indexOf(token) : -1);
  for (const [name, token] of Object.entries({ bos, eos })) {
    if (idOf(token) < 0) continue;
    metadata.set(`tokenizer.ggml.${name}_token_id`, idOf(token));
    metadata.set(`tokenizer.ggml.add_${name}_token`, addsToken(tokenizer, settings, name, token as string));
  }
  for (const [name, token] of Object.entries(others)) {
    if (idOf(token) >= 0) metadata.set(`tokenizer.ggml.${name}_token_id`, idOf(token));
  }
  if (typeof template === "string") metadata.set("tokenizer.chat_template", template);
  return { metadata, whyNone: "" };
}

/** A token in settings, which may have more than its text. */
const contentOf = (setting: unknown) => (isRecord(setting) ? setting.content : setting);

/** So that readers do not look for one. */
function none(whyNone: string): WrittenTokenizer {
  return { metadata: new Map([["tokenizer.ggml.model", "none"]]), whyNone };
}

/** What changes a text before it is split. */
function normalizersOf(normalizer: unknown): readonly JsonObject[] {
  if (!isRecord(normalizer)) return [];
  if (normalizer.type !== "Sequence" || !Array.isArray(normalizer.normalizers)) return [normalizer];
  return normalizer.normalizers.flatMap(normalizersOf);
}

function splitOf(splitting: unknown): string | undefined {
  if (!isRecord(splitting)) return undefined;
  const parts = splitting.type === "Sequence" ? splitting.pretokenizers : [splitting];
  const all = Array.isArray(parts) ? parts.filter(isRecord) : [];
  const bytes = all.at(-1);
  if (bytes?.type !== "ByteLevel" || bytes.add_prefix_space) return undefined;
  if (all.length === 1) return bytes.use_regex === false ? undefined : "gpt-2";
  if (bytes.use_regex !== false) return undefined;
  const patterns = all.slice(0, -1).map(patternOf);
  return [...textSplits].find(([, known]) => isDeepStrictEqual(known, patterns))?.[0];
}

/** The pattern of a split, in which line breaks may be themselves or escaped. */
function patternOf({ type, behavior, invert, pattern }: JsonObject): string | undefined {
  if (type !== "Split" || behavior !== "Isolated" || invert || !isRecord(pattern)) return undefined;
  if (typeof pattern.Regex !== "string") return undefined;
  return pattern.Regex.replaceAll("\r", "\\r").replaceAll("\n", "\\n");
}

/** Whether every text begins, or ends, with a token. */
function addsToken(tokenizer: JsonObject, settings: JsonObject, name: string, token: string): boolean {
  const setting = settings[`add_${name}_token`];
  if (typeof setting === "boolean") return setting;
  const { post_processor: processor } = tokenizer;
  const steps = isRecord(processor) && processor.type === "Sequence" ? processor.processors : [processor];
  const templates = (steps as unknown[]).flatMap((step) =>
    isRecord(step) && Array.isArray(step.single) ? step.single : [],
  );
  const place = name === "bos" ? templates[0] : templates.at(-1);
  return isRecord(place) && isRecord(place.SpecialToken) && place.SpecialToken.id === token;
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw fileSystemError(path, "read", error);
  }
}

async function readJson(directory: string, name: string): Promise<JsonObject | undefined> {
  const path = join(directory, name);
  const text = await readText(path);
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value;
  } catch (error) {
    throw badCheckpoint(path, `expected JSON, got: ${messageOf(error)}`, error);
  }
  throw badCheckpoint(path, "expected a JSON object");
}
