import { cannotCombine, invalidArgument } from "../../core/errors.js";
import { type Fields, integer, object, optional } from "../../core/input/options.js";
import { checkIds, checkTensor, expertCount } from "../check.js";
import { Outputs } from "../outputs.js";
import { type Capacity, type CapacityRule, capacityFields, capacityOf, checkCapacity } from "./capacity.js";
import { type Routing, routingRecord } from "./gating.js";

/** Options of {@link limitCapacity}. */
export interface LimitCapacityOptions extends Capacity {
  /** E. */
  numExperts: number;
  /** Tokens per sequence, for a capacity per sequence; divides T. Default T. */
  sequenceLength?: number | undefined;
  /** Where to write; default new tensors. */
  out?: Routing | undefined;
}

const limitOptions = object(
  {
    ...capacityFields,
    numExperts: expertCount,
    sequenceLength: optional(integer(1)),
    out: optional(routingRecord),
  } satisfies Fields<LimitCapacityOptions>,
  "{ numExperts: 8, factor: 1.25 }",
);

/**
 * Drops choices beyond the capacity of their experts. Returns a routing of the same shape in which dropped choices have
 * id -1 and weight 0. An expert accepts choices in the order given by `drop`; ties go to the lower token, then to the
 * lower slot, and NaN weights come last.
 *
 * The capacity is `tokens`, or factor * T * k / E (arXiv 2101.03961, equation 3), where T is the number of tokens of a
 * sequence or of the batch; that is rounded, raised to `minimum` and rounded up to a multiple of `multipleOf`. See
 * {@link expertCapacity}.
 *
 * @param routing ids [T, k] i32, each -1 (no expert) or 0 .. E-1, and weights [T, k] f32. Any other id is treated as -1
 * and reported as ID_OUT_OF_RANGE at the next wait.
 * @throws INVALID_ARGUMENT (an option out of its range, T*k >= 2^31, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function limitCapacity(routing: Routing, options: LimitCapacityOptions): Routing {
  const read = routingRecord(routing, "routing");
  const given = limitOptions(options, "options");
  const rule = checkCapacity(given);
  const tokens = checkRouting(read);
  const sequenceLength = checkSequenceLength(given.sequenceLength, rule.per, tokens);
  return dropOverflow(read, rule, given.numExperts, sequenceLength, given.out);
}

/** {@link limitCapacity} with checked options; a capacity per batch ignores sequences. */
export function dropOverflow(
  { ids, weights }: Routing,
  rule: CapacityRule,
  numExperts: number,
  sequenceLength: number,
  out?: Routing,
): Routing {
  const { device, shape } = ids;
  const [tokens, topK] = shape as [number, number];
  const { length, capacity } = sharedCapacity(rule, tokens, sequenceLength, topK, numExperts);
  using outputs = new Outputs(device, [ids, weights]);
  const keptIds = outputs.next("out.ids", out?.ids, shape, "i32");
  const keptWeights = outputs.next("out.weights", out?.weights, shape, weights.dtype);
  device.backend.limitCapacity({
    ids: ids.handle,
    weights: weights.handle,
    keptIds: keptIds.handle,
    keptWeights: keptWeights.handle,
    numExperts,
    capacity: Math.min(capacity, ids.size),
    sequenceLength: Math.max(length, 1),
    drop: rule.drop,
    divisor: rule.divisor,
    scale: rule.scale,
  });
  return outputs.returned({ ids: keptIds, weights: keptWeights });
}

/** An expert's capacity, and the number of tokens that share it: those of a sequence or all. */
export function sharedCapacity(
  rule: CapacityRule,
  tokens: number,
  sequenceLength: number,
  topK: number,
  numExperts: number,
): { length: number; capacity: number } {
  const length = rule.per === "sequence" ? sequenceLength : tokens;
  return { length, capacity: capacityOf(rule, length, topK, numExperts) };
}

/** Checks a routing and returns its number of tokens. */
function checkRouting({ ids, weights }: Routing): number {
  checkIds("routing.ids", ids);
  const { device, shape } = ids;
  checkTensor("routing.weights", weights, "float32", shape, device);
  return shape[0] as number;
}

function checkSequenceLength(sequenceLength: number | undefined, per: CapacityRule["per"], tokens: number): number {
  if (sequenceLength === undefined) return tokens;
  if (per !== "sequence") throw cannotCombine("sequenceLength", "a capacity per batch");
  if (tokens % sequenceLength === 0) return sequenceLength;
  throw invalidArgument("sequenceLength", `a divisor of ${tokens} tokens`, sequenceLength);
}
