import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { Tokens } from "../router/tokens.js";
import type { KeptRows } from "./inner_rows.js";

/** A pass of tokens through the experts of a bank, under a routing. */
export interface ForwardPass {
  /** [T, H] */
  readonly x: TensorHandle;
  readonly y: TensorHandle;
  readonly tokens: Tokens;
  readonly routing: Routing;
  /** Upper bound on the choices that fall on experts of the bank; -1 if unknown. */
  readonly maxChoices: number;
  /** [T, H], added to y; default nothing. */
  readonly residual?: TensorHandle | undefined;
  /** Where to write rows before the activation; default nowhere. */
  readonly kept?: KeptRows | undefined;
}
