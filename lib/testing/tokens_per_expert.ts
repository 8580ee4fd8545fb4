import type { FloatDType } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";
import type { MoeLayer } from "../moe_layer.js";
import { sort } from "../operators/routing/sort.js";

/** How many of the tokens x [T, H] the layer's router sends to each expert; `options` are what it needs besides them. */
export async function tokensPerExpert(
  layer: MoeLayer,
  x: Tensor<FloatDType>,
  options: { readonly tokenIds?: Tensor<"i32"> } = {},
): Promise<number[]> {
  const { ids, weights } = layer.route(x, options);
  const rows = sort(ids, { numExperts: layer.description.numExperts });
  try {
    return Array.from(await rows.tokensPerExpert.data());
  } finally {
    for (const tensor of [ids, weights, ...Object.values(rows)]) tensor.dispose();
  }
}
