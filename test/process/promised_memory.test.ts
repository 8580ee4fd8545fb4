import { describe, expect, test } from "vitest";
import { cleanExit, nativeDevices, runFixture } from "./run_fixture.js";

const hostDevices = nativeDevices.filter((name) => !name.startsWith("cuda"));

describe.runIf(process.platform === "linux").each(hostDevices)("memory that %s promises", (device) => {
  test("is never more than there is, and is given back", async () => {
    const outcome = await runFixture("promised_memory", device);
    expect(outcome).toEqual(cleanExit(outcome.stdout));
    const rounds = outcome.stdout.trim().split("\n");
    expect(rounds).toHaveLength(2);
    for (const round of rounds) {
      const { granted, code, message } = JSON.parse(round);
      expect(code).toBe("OUT_OF_MEMORY");
      expect(message).toMatch(
        /^cannot allocate \d+ bytes of host memory: \d+ are available, of which \d+ are promised/,
      );
      // Other processes use memory meanwhile.
      expect(granted).toBeGreaterThan(10);
      expect(granted).toBeLessThan(25);
    }
  });
});
