import { expect, test } from "vitest";
import { platformName } from "../../lib/core/addon/platforms.js";

test("the platform's name leaves the setting of the process's reports as it is", () => {
  const { report } = process;
  const { excludeNetwork } = report as { excludeNetwork?: boolean };
  Object.assign(report, { excludeNetwork: false });
  try {
    expect(platformName()).toContain(`${process.platform}-${process.arch}`);
    expect(report).toMatchObject({ excludeNetwork: false });
  } finally {
    Object.assign(report, { excludeNetwork });
  }
});
