import { describe, expect, test } from "vitest";
import { needs } from "../support/requirements.js";
import { cleanExit, nativeDevices, runFixture } from "./run_fixture.js";

const hostDevices = nativeDevices.filter((name) => !name.startsWith("cuda"));

describe.each(hostDevices)("memory that %s promises", needs("Linux"), (device) => {
  test("is never more than there is, with arrays to read into, and is given back", async () => {
    const outcome = await runFixture("promised_memory", device);
    expect(outcome).toEqual(cleanExit(outcome.stdout));
    const lines = outcome.stdout.trim().split("\n");
    expect(lines).toHaveLength(5);
    for (const round of lines.slice(0, 2)) {
      const { granted, least, most, code, message } = JSON.parse(round);
      expect(code).toBe("OUT_OF_MEMORY");
      expect(message).toMatch(
        /^cannot allocate \d+ bytes of host memory: \d+ are available, of which \d+ are promised/,
      );
      // Neither looks at the memory at the very moment when the other does.
      expect(granted).toBeGreaterThan(least - 5);
      expect(granted).toBeLessThan(most + 1);
    }
    for (const refusal of lines.slice(2)) {
      expect(JSON.parse(refusal)).toEqual({
        code: "OUT_OF_MEMORY",
        message: expect.stringMatching(/^cannot allocate \d+ bytes of host memory: .* promised/),
      });
    }
  });
});
