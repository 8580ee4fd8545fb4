import { GgufFile, type GgufValue } from "moe-kernels/gguf";
import { sentencePieceParts } from "./sentence_piece.js";
import { textSplits } from "./text_splits.js";
import type { TokenizerFiles } from "./tokenizer.js";

/** Types of tokens. */
const [pieceType, unknownType, controlType, wholeType] = [1, 2, 3, 4];

/** The tokenizer in a GGUF file. @throws RangeError for one of another kind than those that merge bytes or pieces. */
export async function readGgufTokenizer(path: string): Promise<TokenizerFiles> {
  await using file = await GgufFile.open(path);
  return tokenizerOf(file.metadata, path);
}

export function tokenizerOf(metadata: ReadonlyMap<string, GgufValue>, path: string): TokenizerFiles {
  const value = (key: string) => metadata.get(`tokenizer.ggml.${key}`);
  const tokens = value("tokens") as readonly string[];
  const types = value("token_type") as Int32Array | undefined;
  const ofId = (key: string) => {
    const id = value(key);
    return typeof id === "number" ? tokens[id] : undefined;
  };
  const parts = partsOf(value, tokens, types, path);
  const bos = ofId("bos_token_id");
  const begins = (value("add_bos_token") ?? value("model") === "llama") === true && bos !== undefined;
  const added = tokens.flatMap((content, id) => {
    const type = types?.[id];
    const special = type === controlType || type === unknownType;
    return special || type === wholeType ? [{ id, content, special, normalized: false }] : [];
  });
  const ends = ["eos_token_id", "eot_token_id"].flatMap((key) => {
    const id = value(key);
    return typeof id === "number" ? [id] : [];
  });
  return {
    tokenizer: {
      version: "1.0",
      added_tokens: added,
      post_processor: begins ? prefixed(bos, tokens.indexOf(bos)) : null,
      ...parts,
    },
    settings: {
      bos_token: bos,
      eos_token: ofId("eos_token_id"),
      chat_template: metadata.get("tokenizer.chat_template"),
    },
    endIds: ends,
  };
}

/** How texts are split, merged and made of tokens. */
function partsOf(
  value: (key: string) => GgufValue | undefined,
  tokens: readonly string[],
  types: Int32Array | undefined,
  path: string,
): object {
  const [model, split] = [value("model"), textSplits.get(value("pre") ?? "gpt-2")];
  const remedy = "give --tokenizer DIR, with the model's tokenizer.json";
  if (model === "llama") {
    const scores = (value("scores") ?? []) as ArrayLike<number>;
    if (scores.length !== tokens.length) {
      const expected = `a score for each of the ${tokens.length} tokens`;
      throw new RangeError(`${path}: expected ${expected}, got ${scores.length}; ${remedy}`);
    }
    const unknown = types?.indexOf(unknownType) ?? -1;
    return sentencePieceParts({
      tokens,
      scores,
      isPiece: (id) => types?.[id] === pieceType,
      unknown: tokens[unknown],
      addsSpace: value("add_space_prefix") !== false,
    });
  }
  if (model === "gpt2" && split !== undefined) {
    return mergedBytes(tokens, (value("merges") ?? []) as readonly string[], split);
  }
  const got = `${JSON.stringify(model)} with ${JSON.stringify(value("pre"))}`;
  throw new RangeError(
    `${path}: expected tokenizer llama, or gpt2 with ${[...textSplits.keys()].join(", ")}, got ${got}; ${remedy}`,
  );
}

function mergedBytes(tokens: readonly string[], merges: readonly string[], split: readonly string[]): object {
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  return {
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        ...split.map((Regex) => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false })),
        bytes,
      ],
    },
    decoder: bytes,
    model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  };
}

/** Puts a token before every text. */
function prefixed(token: string, id: number): object {
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
