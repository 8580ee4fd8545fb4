import { expect } from "vitest";
import { MoeError, type MoeErrorCode } from "../../lib/core/errors.js";

/** Checks that `call` throws a MoeError of this code whose message matches. */
export function expectError(call: () => unknown, code: MoeErrorCode, message: RegExp): void {
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  expectMoeError(thrown, code, message);
}

/** Checks that `promise` rejects with a MoeError of this code whose message matches. */
export async function expectRejection(promise: Promise<unknown>, code: MoeErrorCode, message: RegExp): Promise<void> {
  const thrown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expectMoeError(thrown, code, message);
}

function expectMoeError(thrown: unknown, code: MoeErrorCode, message: RegExp): void {
  expect(thrown).toBeInstanceOf(MoeError);
  const { code: actual, message: text } = thrown as MoeError;
  expect({ code: actual, text }).toEqual({ code, text: expect.stringMatching(message) });
}
