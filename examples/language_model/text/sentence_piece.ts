/** What a SentencePiece model of merged pieces has. */
export interface Pieces {
  readonly tokens: readonly string[];
  /** The higher a piece's score, the sooner it is merged. */
  readonly scores: ArrayLike<number>;
  /** Whether a token is a piece of text, rather than a byte, or a token of its own. */
  isPiece(id: number): boolean;
  /** The token of what has no other, in models without bytes. */
  readonly unknown: string | undefined;
  /** Whether a text begins with a space, which it is not given. */
  readonly addsSpace: boolean;
}

/** A space in pieces. */
const space = "▁";

/** The parts of a tokenizer.json. Characters that are no pieces become bytes. */
export function sentencePieceParts({ tokens, scores, isPiece, unknown, addsSpace }: Pieces) {
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...(addsSpace ? [{ type: "Prepend", prepend: space }] : []),
        { type: "Replace", pattern: { String: " " }, content: space },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: space }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addsSpace ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: mergesOf(tokens, scores, isPiece),
      unk_token: unknown,
      byte_fallback: true,
    },
  };
}

/** Every pair of pieces that together are one, those of the highest scores first. */
function mergesOf(tokens: readonly string[], scores: ArrayLike<number>, isPiece: Pieces["isPiece"]) {
  const pieces = new Map(tokens.flatMap((token, id) => (isPiece(id) ? [[token, scores[id]] as const] : [])));
  const merges = [...pieces].flatMap(([token, score]) => {
    const characters = [...token];
    return characters.slice(1).flatMap((_, i) => {
      const pair = [characters.slice(0, i + 1).join(""), characters.slice(i + 1).join("")] as const;
      return pair.every((part) => pieces.has(part)) ? [{ pair, score }] : [];
    });
  });
  return merges.sort((a, b) => b.score - a.score).map(({ pair }) => pair);
}
