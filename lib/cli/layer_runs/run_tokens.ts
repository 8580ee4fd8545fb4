import { MoeError } from "../../core/errors.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayer } from "../../moe_layer.js";
import type { Tokens } from "../workloads/workload.js";

/** Tokens on a layer's device. */
export interface RunTokens extends Disposable {
  readonly x: Tensor<FloatDType>;
  /** What the router reads: x, or tokens of its own. */
  readonly read: Tensor<FloatDType>;
  /** What a forward needs besides x. */
  readonly options: RouteOptions & { readonly routerInput?: Tensor<FloatDType> };
  /** What the routing needs besides what it reads. */
  readonly routeOptions: RouteOptions;
}

interface RouteOptions {
  readonly tokenIds?: Tensor<"i32">;
}

/** Uploads the tokens for a layer. @throws INVALID_ARGUMENT if there is not what its router needs besides x. */
export function uploadTokens({ device, description }: MoeLayer, tokens: Tokens): RunTokens {
  const dtype = description.weightDType as FloatDType;
  const { x: values, routerInput: given, shape } = tokens;
  const { separateRouterInput, hashRouting } = description;
  const ids = hashRouting && tokens.tokenIds?.(hashRouting.vocabularySize);
  if (separateRouterInput && given === undefined) {
    throw lacking(tokens, 'a tensor "router_input" like "x", which this layer\'s router reads');
  }
  if (hashRouting && ids === undefined) {
    throw lacking(tokens, 'a tensor "token_ids" [T], or [B, S], by which this layer chooses experts');
  }
  const x = device.tensor(values, shape, dtype);
  const routerInput = separateRouterInput && given ? device.tensor(given, shape, dtype) : undefined;
  const tokenIds = ids && device.tensor(ids, shape.slice(0, -1));
  const routeOptions = tokenIds ? { tokenIds } : {};
  return {
    x,
    read: routerInput ?? x,
    options: { ...routeOptions, ...(routerInput && { routerInput }) },
    routeOptions,
    [Symbol.dispose]() {
      x.dispose();
      routerInput?.dispose();
      tokenIds?.dispose();
    },
  };
}

function lacking({ origin }: Tokens, expected: string): MoeError {
  return new MoeError("INVALID_ARGUMENT", `${origin}: expected ${expected}, got none`);
}
