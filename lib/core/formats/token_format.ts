import { describe, type MoeError, unexpected } from "../errors.js";
import type { WeightFormat } from "./weight_format.js";
import { isPlain } from "./weight_formats.js";

export const tokenFormats = ["none", "int8", "fp8", "fp8_ue8m0"] as const;
/**
 * What products with quantised weights round their rows x to before they multiply them: `none` leaves them as they are,
 * `int8` makes them integers from -127 to 127, `fp8` and `fp8_ue8m0` e4m3, times a float32 scale:
 *
 *     scale = max |x| / 127, or / 448 for fp8
 *     x     ≈ scale * code,   code = the nearest to x / scale, ties to even
 *
 * The scales of `fp8_ue8m0` are rounded up to powers of two, as DeepSeek-V3.1 expects (`scale_fmt: "ue8m0"`).
 * The maximum is over a row. For fp8 tokens and e4m3 weights with scales for 128 columns (`b128`, `g128`) it is over each
 * 128 columns of a row, as in DeepSeek-V3 (arXiv 2412.19437, 3.3.2). A row, or group of columns, of zeros has scale 0; one
 * with an element that is not finite becomes NaN. Products with weights of a plain format, routers and gates never round.
 *
 * Both products of an expert round their rows, gate and up those of x, down the inner activations. What an input scale and
 * an input order do to x comes before, the router's weight (`weightOn: "input"`) after. All of this depends on one row
 * only, so results stay batch-invariant.
 *
 * @useDeclaredType
 */
export type TokenFormat = (typeof tokenFormats)[number];

/** The codes of a product's rows, and how many columns share a scale; 0: all of a row. */
export interface TokenScheme {
  readonly format: Exclude<TokenFormat, "none">;
  readonly columns: 0 | 128;
}

/** What a product with such weights rounds its rows to; undefined: nothing. The same as in core/formats/token_format.h. */
export function tokenScheme(format: TokenFormat, weights: WeightFormat): TokenScheme | undefined {
  if (format === "none" || isPlain(weights)) return undefined;
  const blocks = weights.code === "e4m3" && weights.scales?.columns === 128;
  return { format, columns: format !== "int8" && blocks ? 128 : 0 };
}

/** An INVALID_ARGUMENT error for rounded tokens without quantised weights, whose formats are these. */
export function nothingRounds(parameter: string, formats: readonly string[], ...given: TokenFormat[]): MoeError {
  return unexpected(
    parameter,
    `"none" with weights that are not quantised (${formats.join(", ")})`,
    `${given.map(describe).join(", ")}; quantise the weights, for example to int4_g32`,
  );
}
