import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readTokenizer } from "../../../lib/checkpoint/quantize/gguf/tokenizer.js";
import { expectRejection } from "../../support/errors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

let made = 0;
function write(files: Readonly<Record<string, object | string>>): string {
  const path = join(directory.path, String(made++));
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(path, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  return path;
}

const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
/** As in tokenizer.json of Qwen3 and of gpt-oss. */
const patterns = {
  qwen2:
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  glm4: "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "gpt-4o":
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};
/** Of DeepSeek-V3. */
const deepseek = [
  "\\p{N}{1,3}",
  "[一-龥぀-ゟ゠-ヿ]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
];
const splitBy = (...patterns: readonly string[]) => ({
  type: "Sequence",
  pretokenizers: [
    ...patterns.map((Regex) => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false })),
    { ...bytes, use_regex: false },
  ],
});
const tokenizer = {
  version: "1.0",
  added_tokens: [
    { id: 3, content: "<end>", special: true },
    { id: 4, content: "<tool>", special: false },
  ],
  normalizer: { type: "NFC" },
  pre_tokenizer: splitBy(patterns.qwen2),
  post_processor: { ...bytes, use_regex: false },
  decoder: bytes,
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] },
};

describe("a tokenizer for GGUF", () => {
  test("has tokens, their types, merges, special tokens and the template", async () => {
    const settings = {
      eos_token: { content: "<end>" },
      bos_token: null,
      chat_template: "{{ messages }}",
      add_bos_token: false,
    };
    const path = write({ "tokenizer.json": tokenizer, "tokenizer_config.json": settings });
    const { metadata, whyNone } = await readTokenizer(path, 6);
    expect(whyNone).toBe("");
    expect(Object.fromEntries(metadata)).toEqual({
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "qwen2",
      "tokenizer.ggml.tokens": ["a", "b", "ab", "<end>", "<tool>", "[PAD5]"],
      "tokenizer.ggml.token_type": Int32Array.of(1, 1, 1, 3, 4, 5),
      "tokenizer.ggml.merges": ["a b"],
      "tokenizer.ggml.eos_token_id": 3,
      "tokenizer.ggml.add_eos_token": false,
      "tokenizer.chat_template": "{{ messages }}",
    });
  });

  test("splits as llama.cpp's names say, has merges as pairs, and a template of its own file", async () => {
    const written = async (pre_tokenizer: object) => {
      const model = { ...tokenizer.model, merges: [["a", "b"]] };
      const path = write({
        "tokenizer.json": { ...tokenizer, model, pre_tokenizer },
        "chat_template.jinja": "{{ x }}",
      });
      const { metadata } = await readTokenizer(path, 5);
      expect(metadata.get("tokenizer.ggml.merges")).toEqual(["a b"]);
      expect(metadata.get("tokenizer.chat_template")).toBe("{{ x }}");
      return metadata.get("tokenizer.ggml.pre");
    };
    expect(await written(splitBy(patterns["gpt-4o"]))).toBe("gpt-4o");
    // DeepSeek's line breaks are not escaped.
    expect(await written(splitBy(...deepseek))).toBe("deepseek-v3");
    expect(await written({ ...bytes, use_regex: true })).toBe("gpt-2");
    expect(await written(bytes)).toBe("gpt-2");
  });

  test("of GLM has the special tokens of llama.cpp's converter, of those that there are", async () => {
    const names = ["<|endoftext|>", "[gMASK]", "<|user|>", "<|observation|>"];
    const added_tokens = names.map((content, index) => ({ id: 3 + index, content, special: true }));
    const settings = { eos_token: "<|endoftext|>" };
    const written = async (tokens: readonly object[]) => {
      const content = { ...tokenizer, added_tokens: tokens, pre_tokenizer: splitBy(patterns.glm4) };
      const path = write({ "tokenizer.json": content, "tokenizer_config.json": settings });
      const { metadata } = await readTokenizer(path, 7);
      expect(metadata.get("tokenizer.ggml.pre")).toBe("glm4");
      const others = [...metadata].filter(([key]) => /_(id|token)$/.test(key));
      return Object.fromEntries(others.map(([key, value]) => [key.replace("tokenizer.ggml.", ""), value]));
    };
    const eos = { eos_token_id: 3, add_eos_token: false };
    expect(await written(added_tokens)).toEqual({
      ...eos,
      bos_token_id: 4,
      add_bos_token: false,
      eot_token_id: 5,
      unknown_token_id: 3,
      eom_token_id: 6,
    });
    expect(await written(added_tokens.slice(0, 1))).toEqual({ ...eos, unknown_token_id: 3 });
  });

  test("has nothing that changes texts before, or only NFC, also in a sequence", async () => {
    for (const normalizers of [[], [{ type: "NFC" }]]) {
      const path = write({ "tokenizer.json": { ...tokenizer, normalizer: { type: "Sequence", normalizers } } });
      expect((await readTokenizer(path, 5)).whyNone).toBe("");
    }
  });

  test("adds the token that a template puts before texts", async () => {
    const single = [{ SpecialToken: { id: "<end>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
    const post_processor = { type: "Sequence", processors: [bytes, { type: "TemplateProcessing", single }] };
    const settings = { bos_token: "<end>", eos_token: "<end>" };
    const path = write({ "tokenizer.json": { ...tokenizer, post_processor }, "tokenizer_config.json": settings });
    const { metadata } = await readTokenizer(path, 5);
    const ofTexts = ["add_bos_token", "add_eos_token", "bos_token_id"].map((key) =>
      metadata.get(`tokenizer.ggml.${key}`),
    );
    expect(ofTexts).toEqual([true, false, 3]);
  });

  test.each([
    ["there is no tokenizer.json", undefined, 5],
    ["expected a model that merges bytes", { ...tokenizer, model: { type: "Unigram", vocab: [] } }, 5],
    ["expected a model that merges bytes", { ...tokenizer, model: { ...tokenizer.model, byte_fallback: true } }, 5],
    ["expected no normalizer but NFC", { ...tokenizer, normalizer: { type: "Lowercase" } }, 5],
    [
      "expected no normalizer but NFC",
      { ...tokenizer, normalizer: { type: "Sequence", normalizers: [{ type: "Lowercase" }] } },
      5,
    ],
    ["llama.cpp has no name for how it splits texts", { ...tokenizer, pre_tokenizer: splitBy("\\s+") }, 5],
    [
      "llama.cpp has no name for how it splits texts",
      { ...tokenizer, pre_tokenizer: splitBy(...deepseek.slice(1)) },
      5,
    ],
    [
      "llama.cpp has no name for how it splits texts",
      { ...tokenizer, pre_tokenizer: { ...bytes, add_prefix_space: true } },
      5,
    ],
    ["expected ids below vocab_size, which is 4", tokenizer, 4],
  ])("is left out: %s", async (reason, content, vocabulary) => {
    const { metadata, whyNone } = await readTokenizer(write(content ? { "tokenizer.json": content } : {}), vocabulary);
    expect(Object.fromEntries(metadata)).toEqual({ "tokenizer.ggml.model": "none" });
    expect(whyNone).toContain(reason);
  });

  test("must be JSON", async () => {
    await expectRejection(
      readTokenizer(write({ "tokenizer.json": "{" }), 5),
      "BAD_CHECKPOINT",
      /tokenizer\.json: expected JSON/,
    );
    await expectRejection(
      readTokenizer(write({ "tokenizer.json": "[]" }), 5),
      "BAD_CHECKPOINT",
      /expected a JSON object/,
    );
  });
});
