import { beforeAll, test } from "vitest";

beforeAll(() => {
  throw new Error("on purpose");
});
test("is not left out: what comes before it fails", () => {});
