export const sharedGates = ["none", "sigmoid", "softmax"] as const;
/**
 * The weight of the shared experts' output: 1 (`none`), the sigmoid of a linear projection, or the second entry of a
 * softmax over two (residual MoE), whose first entry multiplies the routed experts' weights.
 *
 * @useDeclaredType
 */
export type SharedGate = (typeof sharedGates)[number];

/** The rows of a gate's weight: one logit, the two of a softmax, or none. */
export function sharedGateRows(gate: SharedGate): number {
  return { none: 0, sigmoid: 1, softmax: 2 }[gate];
}
