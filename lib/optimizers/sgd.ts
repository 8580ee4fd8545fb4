import { checkOwnClass } from "../core/device/own_class.js";
import { requires } from "../core/errors.js";
import { boolean, type Fields, object, optional } from "../core/input/options.js";
import { fraction, Optimizer, type OptimizerOptions, optimizerFields } from "./optimizer.js";
import type { Parameter } from "./parameter.js";

/** Options of {@link SGD}. */
export interface SGDOptions extends OptimizerOptions {
  /** Default 0: none, and nothing is kept. */
  momentum?: number | undefined;
  /** Nesterov's momentum; default false. */
  nesterov?: boolean | undefined;
}

const sgdOptions = object(
  {
    ...optimizerFields,
    momentum: optional(fraction, 0),
    nesterov: optional(boolean, false),
  } satisfies Fields<SGDOptions>,
  "{ learningRate: 0.1 }",
);

/**
 * Stochastic gradient descent with momentum (Sutskever et al., 2013), as PyTorch has it: g = gradient + λp, v = μv + g,
 * p = p - η v, or p - η (g + μv) with Nesterov's momentum, in float32.
 */
export class SGD extends Optimizer {
  /** @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, SHAPE_MISMATCH, DEVICE_MISMATCH, OUT_OF_MEMORY. */
  constructor(parameters: Iterable<Parameter>, options: SGDOptions) {
    checkOwnClass(new.target, SGD);
    const { momentum, nesterov, ...others } = sgdOptions(options, "options");
    if (nesterov && momentum === 0) throw requires("nesterov", "momentum");
    const keeps = { kind: "SGD", names: momentum === 0 ? [] : ["velocity"], counted: false };
    super(parameters, others, keeps, ({ backend }, { kept, ...handles }) => {
      const velocity = kept.velocity ?? handles.parameter.view([0], 0);
      backend.sgd({ ...handles, velocity, momentum, nesterov });
      if (kept.velocity === undefined) velocity.free();
    });
  }
}
