import { expect, test } from "vitest";
import { openDevice } from "../../lib/index.js";
import { deviceSubject, runCases } from "../../lib/testing/index.js";
import { deviceNames } from "../support/devices.js";
import { drawOnce } from "./draw_once.js";

drawOnce();

test.each(deviceNames)("%s passes as a subject, also with other numbers", async (name) => {
  using device = openDevice(name as "cpu", { poison: true });
  const filter = ({ name }: { name: string }) => /T(7|9|13|33) /.test(name);
  for (const seed of [0, 5]) {
    const report = await runCases(deviceSubject(device), { filter, seed });
    expect(report.results.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.results.length).toBeGreaterThan(100);
    expect(report).toMatchObject({ subject: name, seed, passed: true, untested: [] });
  }
});
