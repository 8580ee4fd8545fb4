import { MoeError } from "../errors.js";

/**
 * Refuses a subclass. A getter of a subclass that hides `shape` would make checks see other sizes than the memory has. Classes
 * whose objects reach native code freeze them too, for a property of the object's own would do the same.
 */
export function checkOwnClass(constructed: { readonly name: string }, own: { readonly name: string }): void {
  if (constructed === own) return;
  throw new MoeError("INVALID_ARGUMENT", `${own.name} cannot be subclassed; keep one in a field of your class instead`);
}

/**
 * Refuses a call by users of a constructor that only this package can call.
 * @param maker what users call instead.
 * @param given whether the constructor got the arguments that only this package has.
 */
export function checkMadeBy(maker: string, own: { readonly name: string }, given: boolean): void {
  if (given) return;
  throw new MoeError("INVALID_ARGUMENT", `${own.name} has no public constructor; use ${maker}`);
}
