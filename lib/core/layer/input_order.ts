import { invalidArgument } from "../errors.js";

/** @throws INVALID_ARGUMENT unless the order of a matrix's columns names every input once. */
export function checkOrder(parameter: string, order: ArrayLike<number>): void {
  const last = order.length - 1;
  const named = new Set<number>();
  for (let column = 0; column <= last; column++) {
    const input = order[column] as number;
    const isInput = input >= 0 && input <= last;
    if (isInput && !named.has(input)) named.add(input);
    else throw invalidArgument(`${parameter}[${column}]`, isInput ? "every input once" : `from 0 to ${last}`, input);
  }
}
