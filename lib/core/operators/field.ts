// An operator is declared by the fields of the one object that devices take. The TypeScript types follow from the
// declaration; the native addon has the same list, and a test compares the two.

/** The kind of one field. */
export interface Field<Kind extends string = string> {
  readonly kind: Kind;
}

/** A string, one of `choices`. */
export interface Choice<Name extends string = string> extends Field<"choice"> {
  readonly choices: readonly Name[];
}

/** An object whose fields are not tensors. */
export interface Rule<F extends Fields = Fields> extends Field<"rule"> {
  readonly fields: F;
}

export type Fields = { readonly [name: string]: Field };

const field = <Kind extends string>(kind: Kind): Field<Kind> => ({ kind });

/** A tensor that the operator reads. */
export const input = field("input");
/** A tensor that it reads if given. */
export const optionalInput = field("optional_input");
/** A tensor that it overwrites. */
export const output = field("output");
/** A tensor that it reads and then writes. */
export const updated = field("updated");
/** A tensor that it overwrites if given. */
export const optionalOutput = field("optional_output");
/** A matrix in a tensor's memory, read through strides. */
export const matrix = field("matrix");
/** A weight in any format. */
export const weight = field("weight");
/** The name of a weight format. */
export const weightFormat = field("format");
/** Expert weights in the device's own layout. */
export const packedExperts = field("packed_experts");
export const integer = field("integer");
export const number = field("number");
export const boolean = field("boolean");
/** A bigint from 0 to 2^64 - 1. */
export const seed = field("seed");

/** A string, one of `choices`. */
export function choice<const Name extends string>(choices: readonly Name[]): Choice<Name> {
  return { kind: "choice", choices };
}

/** An object whose fields are not tensors. */
export function rule<F extends Fields>(fields: F): Rule<F> {
  return { kind: "rule", fields };
}

/** An operator by its fields: inputs, outputs and parameters. */
export function operator<F extends Fields>(fields: F): F {
  return fields;
}

/** The types that a device takes for tensors, matrices, weights and packed experts. */
export interface Handles {
  readonly tensor: unknown;
  readonly matrix: unknown;
  readonly weight: unknown;
  readonly packedExperts: unknown;
}

interface Values {
  readonly integer: number;
  readonly number: number;
  readonly boolean: boolean;
  readonly seed: bigint;
  readonly format: string;
}

/** What a device with such handles takes for a field. */
export type ValueOf<F extends Field, H extends Handles> =
  F extends Choice<infer Name>
    ? Name
    : F extends Rule<infer Inner>
      ? RuleValues<Inner>
      : F["kind"] extends keyof Values
        ? Values[F["kind"]]
        : F["kind"] extends "matrix"
          ? H["matrix"]
          : F["kind"] extends "weight"
            ? H["weight"]
            : F["kind"] extends "packed_experts"
              ? H["packedExperts"]
              : H["tensor"];

/** The object that a {@link Rule} declares. */
export type RuleValues<F extends Fields> = { readonly [Name in keyof F]: ValueOf<F[Name], Handles> };

type Optional = Field<"optional_input" | "optional_output">;

/** The object that an operator's fields declare; an optional tensor may be null or left out. */
export type Operands<F extends Fields, H extends Handles> = {
  readonly [Name in keyof F as F[Name] extends Optional ? never : Name]: ValueOf<F[Name], H>;
} & {
  readonly [Name in keyof F as F[Name] extends Optional ? Name : never]?: ValueOf<F[Name], H> | null | undefined;
};
