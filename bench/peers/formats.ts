import type { TokenFormat } from "#lib/core/formats/token_format.js";

/** Those of GGUF's blocks, which llama.cpp multiplies by rows of 8 bits. */
export const ggufFormats = [
  "q8_0:int8",
  "q4_0:int8",
  "q2_k:int8",
  "q3_k:int8",
  "q4_k:int8",
  "q5_k:int8",
  "q6_k:int8",
  "iq4_nl:int8",
  "iq4_xs:int8",
  "mxfp4:int8",
  "iq3_s:int8",
  "iq2_xxs:int8",
] as const;

/** What peers are compared in: the format of the weights and, after a colon, what products round their rows to. */
export const peerFormats = [
  "f32",
  "bf16",
  "i8_channel_f32:int8",
  "i8_g128_f32",
  "i8_g128_f32:int8",
  "i4_g32_f32",
  "i4_g32_f32:int8",
  ...ggufFormats,
] as const;
export type PeerFormat = (typeof peerFormats)[number];
export type PeerDType = "f32" | "bf16";

/** Formats of weights. */
export type PeerWeights = PeerFormat extends infer Format
  ? Format extends `${infer Weights}:int8`
    ? Weights
    : Format
  : never;

/** The parts of a format. */
export interface FormatParts {
  readonly weights: PeerWeights;
  /** The dtype of tokens and outputs: that of the weights, or f32 for quantised ones. */
  readonly tokens: PeerDType;
  readonly tokenFormat: TokenFormat;
}

export function partsOf(format: PeerFormat): FormatParts {
  const [weights, tokenFormat = "none"] = format.split(":") as [PeerWeights, TokenFormat?];
  return { weights, tokens: weights === "bf16" ? "bf16" : "f32", tokenFormat };
}
