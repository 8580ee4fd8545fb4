import { describe, expect, test } from "vitest";
import { leftOut, needs } from "../requirements.js";

const cannotRun = () => expect.unreachable();

test("runs", () => {});
test("needs a program that is there", needs("python3"), () => {});
test("needs another, too", needs("python3", "chromium"), cannotRun);
describe.each(["a", "b"])("group %s", leftOut("a peer", "npm run peers"), () => {
  test.each([1, 2])("case %i", cannotRun);
});
test.skip("tells nobody why", cannotRun);
