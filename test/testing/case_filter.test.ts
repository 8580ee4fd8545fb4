import { expect, test } from "vitest";
import { runCases } from "../../lib/testing/index.js";

// Reports of devices name operators in snake case, subjects as functions are named.

test.each(["rmsNorm T1 ", "rms_norm T1 ", "T1 H"])("a filter finds cases of a subject by %j", async (filter) => {
  const { skipped } = await runCases({ name: "none", operators: { rmsNorm: () => null } }, { filter });
  expect(skipped.length).toBeGreaterThan(0);
  for (const { name } of skipped) expect(name).toContain("T1 ");
});
