import { MoeError } from "./errors.js";

/**
 * Refuses a subclass. The classes whose objects native code works with also freeze them: a getter of a subclass, or a
 * property of an object's own, in place of `shape` would make checks look at other sizes than those of the memory.
 */
export function checkOwnClass(constructed: { readonly name: string }, own: { readonly name: string }): void {
  if (constructed === own) return;
  throw new MoeError(
    "INVALID_ARGUMENT",
    `${own.name} cannot be subclassed; keep one in a field of your class instead`,
  );
}

/**
 * Refuses a call of a constructor that only the package's own functions have the arguments for.
 * @param given whether they are there.
 * @param maker what users call instead.
 */
export function checkMadeBy(maker: string, own: { readonly name: string }, given: boolean): void {
  if (given) return;
  throw new MoeError("INVALID_ARGUMENT", `${own.name} has no public constructor; use ${maker}`);
}
