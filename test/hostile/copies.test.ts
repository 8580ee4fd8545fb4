import { expect, test } from "vitest";
import { cleanExit, nativeDevices, runFixture } from "../process/run_fixture.js";

test.each(nativeDevices)("%s: two copies of the package have errors in their own classes", async (device) => {
  expect(await runFixture("copies", device)).toEqual(cleanExit("done\n"));
});
