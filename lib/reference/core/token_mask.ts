import type { ReferenceTensor } from "./tensor.js";

/** Whether a token counts, by its place in a batch. */
export type CountsToken = (token: number) => boolean;

/** Reads a mask [T] u8; without one, all tokens count. */
export function tokenMask(mask: ReferenceTensor | null | undefined): CountsToken {
  if (!mask) return () => true;
  const values = mask.values();
  return (token) => values[token] !== 0;
}
