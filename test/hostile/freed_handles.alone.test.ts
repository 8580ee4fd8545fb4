import { describe, expect, test } from "vitest";
import * as api from "../../lib/index.js";
import { liveHandles } from "../support/live_handles.js";
import { callsForTests } from "../support/public_calls/calls_for_tests.js";
import { argumentLists } from "../support/public_calls/index.js";

// What a public function takes of a device and does not return it gives back itself, without waiting for the collector.

const device = api.openDevice("reference");
const handles = liveHandles(device);
const { calls } = await callsForTests(device);

describe.each(calls)("$name", (subject) => {
  test("keeps no more handles with every call", async () => {
    for (const list of argumentLists(subject)) {
      const given = objectsIn(list);
      const run = async () => {
        await disposeNew(await subject.call(...list), given);
      };
      // The first may keep some for the next.
      await run();
      const kept = handles.places();
      await run();
      expect(handles.places()).toEqual(kept);
      // What takes memory several times is made whole or not at all.
      for (let nth = 0; await handles.refuse(nth, run); nth++) expect(handles.places()).toEqual(kept);
    }
  });
});

/** All objects in arguments, which calls may return. */
function objectsIn(value: unknown, found: Set<unknown> = new Set()): ReadonlySet<unknown> {
  if (typeof value !== "object" || value === null || found.has(value)) return found;
  found.add(value);
  for (const part of Object.values(value)) objectsIn(part, found);
  return found;
}

/** Disposes of all that a result holds but what was given. */
async function disposeNew(result: unknown, given: ReadonlySet<unknown>): Promise<void> {
  if (typeof result !== "object" || result === null || given.has(result)) return;
  if (Symbol.asyncDispose in result) {
    await (result as AsyncDisposable)[Symbol.asyncDispose]();
  } else if (Symbol.dispose in result) {
    (result as Disposable)[Symbol.dispose]();
  } else {
    const parts: Iterable<unknown> = result instanceof Map ? result.values() : Object.values(result);
    for (const part of parts) await disposeNew(part, given);
  }
}
