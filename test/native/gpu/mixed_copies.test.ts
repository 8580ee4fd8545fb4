import { describe, expect, test } from "vitest";
import type { DeviceOptions } from "../../../lib/core/addon/native.js";
import { openDevice } from "../../../lib/devices.js";
import { groupedGemmCase } from "../../../lib/testing/cases/grouped_gemm.js";
import { groupedGemmBackwardCases } from "../../../lib/testing/cases/grouped_gemm_backward.js";
import { runCase } from "../../../lib/testing/run.js";
import { hopperPath, openForTests, withVariable } from "../../support/devices.js";

// Copies to shared memory, and products by wgmma, may take effect at once, or as late as the waits allow, as in the other
// tests. Here the seed draws it for each: a copy into a stage that is still read shows, and what is read too early. Products with quantised weights are in
// test/native/simt_device.

// Columns that fill every ring of stages more than once, in tiles of all heights.
const products = (["bf16", "f16"] as const).flatMap((dtype) =>
  [[1, 3], [40], [130, 70]].map((rows) =>
    groupedGemmCase({ rows, columns: 700, outputs: 300, dtypes: [dtype, dtype] }),
  ),
);
const gradients = groupedGemmBackwardCases.filter(({ name }) => /bf16 x bf16|f16 x f16/.test(name));

describe.each([{ label: "simt", open: (options?: DeviceOptions) => openDevice("simt", options) }, hopperPath])(
  "$label",
  (path) => {
    const device = openForTests({
      label: path.label,
      open: (options) => withVariable("MOE_SIMT_ASYNC", "mixed", () => path.open(options)),
    });

    test("copies take effect at once or late", () => {
      expect(device().description).toContain("MOE_SIMT_ASYNC=mixed");
    });

    test.each([...products, ...gradients])("$operator: $name", async (subject) => {
      const { checks } = await runCase(subject, device());
      for (const check of checks) expect(check).toMatchObject({ passed: true });
    });
  },
);
