import type { FloatDType } from "../core/dtype.js";
import { MoeError } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import type { MoeLayer } from "../moe_layer.js";
import type { Tokens } from "./workloads/workload.js";

/** Tokens on a layer's device. */
export interface RunTokens extends Disposable {
  readonly x: Tensor<FloatDType>;
  /** What the router reads: x, or tokens of its own. */
  readonly read: Tensor<FloatDType>;
  /** What a forward needs besides x. */
  readonly options: { readonly routerInput?: Tensor<FloatDType> };
}

/** Uploads the tokens for a layer. @throws INVALID_ARGUMENT if there are none for a router that reads others than x. */
export function uploadTokens({ device, description }: MoeLayer, tokens: Tokens): RunTokens {
  const dtype = description.weightDType as FloatDType;
  const { x: values, routerInput: given, shape, origin } = tokens;
  if (description.separateRouterInput && given === undefined) {
    const expected = 'a tensor "router_input" like "x", which this layer\'s router reads';
    throw new MoeError("INVALID_ARGUMENT", `${origin}: expected ${expected}, got none`);
  }
  const x = device.tensor(values, shape, dtype);
  const routerInput = description.separateRouterInput && given ? device.tensor(given, shape, dtype) : undefined;
  return {
    x,
    read: routerInput ?? x,
    options: routerInput ? { routerInput } : {},
    [Symbol.dispose]() {
      x.dispose();
      routerInput?.dispose();
    },
  };
}
