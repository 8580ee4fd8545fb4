import type { Field, Fields } from "../../core/operators/field.js";
import { type OperatorName, type OperatorTable, operators } from "../../core/operators/table.js";

/** Kinds of fields that are not data: a subject gets arrays, numbers and names. */
const opaqueKinds = ["matrix", "weight", "format"] as const;
type Opaque = Field<(typeof opaqueKinds)[number]>;

/** Operators without cases for a subject: theirs call several operators, or draw numbers by this package's generator. */
const leftOut = [
  "random",
  "jitter",
  "noisyLogits",
  "noisyLogitsBackward",
  "imbalance",
  "updateSelectionBias",
  "columnMeansBackward",
  "cvSquaredBackward",
  "balanceLoss",
  "balanceLossBackward",
  "accumulate",
] as const satisfies readonly OperatorName[];

/** The operators of this package that a subject can have. */
export const testedOperatorNames = (Object.keys(operators) as OperatorName[]).filter(isTested);
export type TestedOperatorName = (typeof testedOperatorNames)[number];

// The type is written here and has no name of its own, as users who declare what they re-export could not import it.
function isTested(name: OperatorName): name is {
  [Name in OperatorName]: Extract<OperatorTable[Name][keyof OperatorTable[Name]], Opaque> extends never ? Name : never;
}[Exclude<OperatorName, (typeof leftOut)[number]>] {
  const fields: Fields = operators[name];
  const isOpaque = ({ kind }: Field) => (opaqueKinds as readonly string[]).includes(kind);
  return !(leftOut as readonly string[]).includes(name) && !Object.values(fields).some(isOpaque);
}
