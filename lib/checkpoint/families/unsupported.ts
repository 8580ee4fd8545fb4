/** Families whose layers the formula of a layer cannot express, by their `model_type`, and why. */
export const unsupported: ReadonlyMap<unknown, string> = new Map([
  ["zaya", "its routers are networks that read each other"],
  ["doge", "its experts are pairs of keys"],
]);
