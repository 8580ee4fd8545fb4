import type { Subject, UntypedOperator } from "./subject.js";

/** A subject's operator of this name, for inputs that are known to be its own; undefined if it does not have it. */
export function operatorOf({ operators }: Subject, name: string): UntypedOperator | undefined {
  return (operators as { readonly [name: string]: UntypedOperator | undefined })[name]?.bind(operators);
}
