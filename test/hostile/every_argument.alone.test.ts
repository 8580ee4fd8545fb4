import { afterAll, describe, expect, test } from "vitest";
import * as api from "../../lib/index.js";
import { paths, replaced } from "../fuzz/arguments.js";
import { hostile, hostileCount } from "../fuzz/hostile.js";
import { use } from "../fuzz/use.js";
import { callsForTests } from "../support/public_calls/calls_for_tests.js";
import { argumentLists } from "../support/public_calls/index.js";

// Every public function, with every hostile value in the place of every argument and every option: what the fuzzer draws
// from, gone through on the device that checks the same and computes at once.

const device = api.openDevice("reference");
const other = api.openDevice("reference");
const { calls, directory } = await callsForTests(device);
// Functions that write files take any string for a path, such as the name of a dtype.
const before = process.cwd();
process.chdir(directory);
afterAll(() => {
  process.chdir(before);
  other.dispose();
});

/** Whether a place is not one of the later entries of a list, which are treated like the first. */
function isFirst([, ...within]: readonly (string | number)[]): boolean {
  return within.every((name) => typeof name === "string" || name === 0);
}

describe.each(calls)("$name", (subject) => {
  test("is accepted or refused by an error of this package", async () => {
    for (const list of argumentLists(subject)) {
      for (const path of paths(list).filter(isFirst)) {
        for (let index = 0; index < hostileCount; index++) {
          const { source, value } = hostile(index, device, other);
          let error: unknown;
          try {
            await use(await subject.call(...(replaced(list, path, value) as unknown[])));
            await device.synchronize();
          } catch (thrown) {
            error = thrown;
          }
          if (error === undefined || (error as Error).name === "AbortError") continue;
          expect({ path, source, error }).toMatchObject({ error: { name: "MoeError", message: /./, code: /./ } });
        }
      }
    }
  });
});
