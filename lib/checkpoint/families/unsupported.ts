/** Families whose layers the formula of a layer cannot express, by their `model_type`, and why. */
export const unsupported: ReadonlyMap<unknown, string> = new Map([
  ["ernie4_5_vl_moe_text", "tokens of images have experts of their own"],
  ["ernie4_5_moe_vl", "tokens of images have experts of their own"],
  ["deepseek_v41", "tokens of images have a selection bias of their own"],
  ["deepseek_v41_text", "tokens of images have a selection bias of their own"],
  ["inkling_text", "its router weighs the shared experts, too"],
  ["zaya", "its routers are networks that read each other"],
  ["doge", "its experts are pairs of keys"],
]);
