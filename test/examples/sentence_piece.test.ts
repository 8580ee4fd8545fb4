import { readFileSync } from "node:fs";
import type { GgufValue } from "moe-kernels/gguf";
import { describe, expect, test } from "vitest";
import { tokenizerOf } from "../../build/examples/language_model/text/gguf_tokenizer.js";
import { TextTokenizer } from "../../build/examples/language_model/text/tokenizer.js";

interface Expected {
  readonly pieces: readonly string[];
  readonly scores: readonly number[];
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[] }[];
}

/** A vocabulary of SentencePiece, and the ids that it gives texts. */
const { pieces, scores, texts } = JSON.parse(
  readFileSync("test/golden/sentence_piece/expected.json", "utf8"),
) as Expected;

/** As llama.cpp's converter writes it. */
const metadata = (more: Readonly<Record<string, GgufValue | undefined>> = {}) => {
  const type = (piece: string, id: number) => (/^<0x..>$/.test(piece) ? 6 : (([2, 3, 3] as const)[id] ?? 1));
  const fields: Readonly<Record<string, GgufValue | undefined>> = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": pieces,
    "tokenizer.ggml.scores": Float32Array.from(scores),
    "tokenizer.ggml.token_type": Int32Array.from(pieces.map(type)),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.add_bos_token": false,
    ...more,
  };
  return new Map(Object.entries(fields).filter((entry): entry is [string, GgufValue] => entry[1] !== undefined));
};
const tokenizer = (more?: Parameters<typeof metadata>[0]) => new TextTokenizer(tokenizerOf(metadata(more), "m.gguf"));

describe("a SentencePiece tokenizer of a GGUF file", () => {
  test.each(texts)("encodes $text as SentencePiece does", ({ text, ids }) => {
    expect(tokenizer().encode(text)).toEqual(ids);
    expect(tokenizer().decode(ids)).toBe(text);
  });

  test("is that of a tokenizer.json with the same pieces", () => {
    // The fields that convert_slow_tokenizer.py of Transformers writes for Llama and Mixtral.
    const space = "\u2581";
    const added = ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content, special: true, normalized: false }));
    const pieceIds = pieces.flatMap((piece, id) => (id > 2 && !/^<0x..>$/.test(piece) ? [[piece, id] as const] : []));
    const ids = new Map(pieceIds);
    const merges = pieceIds.flatMap(([piece, id]) =>
      Array.from({ length: piece.length - 1 }, (_, i) => [piece.slice(0, i + 1), piece.slice(i + 1)] as const)
        .filter(([left, right]) => ids.has(left) && ids.has(right))
        .map((pair) => ({ pair, score: scores[id] as number })),
    );
    const file = {
      ...{ version: "1.0", added_tokens: added, pre_tokenizer: null },
      normalizer: {
        type: "Sequence",
        normalizers: [
          { type: "Prepend", prepend: space },
          { type: "Replace", pattern: { String: " " }, content: space },
        ],
      },
      post_processor: {
        type: "TemplateProcessing",
        single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
        pair: [],
        special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
      },
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: space }, content: " " },
          ...[{ type: "ByteFallback" }, { type: "Fuse" }],
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
      model: {
        ...{ type: "BPE", unk_token: "<unk>", fuse_unk: true, byte_fallback: true },
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: merges.sort((a, b) => b.score - a.score).map(({ pair }) => pair.join(" ")),
      },
    };
    const other = new TextTokenizer({ tokenizer: file, settings: {}, endIds: [2] });
    // It begins texts unless the file says otherwise.
    const own = tokenizer({ "tokenizer.ggml.add_bos_token": undefined });
    expect([...own.endIds]).toEqual([2]);
    for (const text of [...texts.map(({ text }) => text), "a</s>b", ""]) {
      expect(own.encode(text)).toEqual(other.encode(text));
      expect(own.decode(own.encode(text))).toBe(other.decode(other.encode(text)));
    }
    expect(own.encode("a")[0]).toBe(1);
    expect(own.encode("a</s>b")).toContain(2);
  });

  test("begins texts with a space only where the file does not say otherwise", () => {
    const plain = tokenizer({ "tokenizer.ggml.add_space_prefix": false });
    expect(plain.encode(" Experts")).toEqual(tokenizer().encode("Experts"));
    expect(plain.decode(plain.encode(" Experts"))).toBe(" Experts");
    expect(plain.encode("Experts")).not.toEqual(tokenizer().encode("Experts"));
  });

  test("has the text of incomplete bytes once they are complete", () => {
    const own = tokenizer();
    const ids = own.encode("x漢");
    const seen = ids.map((_, i) => own.decode(ids.slice(0, i + 1)));
    expect(seen.at(-1)).toBe("x漢");
    expect(seen.slice(-3, -1)).toEqual(["x", "x"]);
  });

  test.each([undefined, new Float32Array(3)])("is refused with scores %s", (given) => {
    expect(() => tokenizer({ "tokenizer.ggml.scores": given })).toThrow(
      /^m\.gguf: expected a score for each of the 600 tokens, got (0|3); give --tokenizer DIR, with the model's tokenizer\.json$/,
    );
  });
});
