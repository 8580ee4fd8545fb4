import { expect, test, vi } from "vitest";

vi.mock("../../../lib/core/addon/native.js", () => {
  throw new Error("the native loader was imported");
});

test("the safetensors module needs neither addon nor devices", async () => {
  await expect(import("../../../lib/devices.js")).rejects.toThrow();
  await expect(import("../../../lib/checkpoint/safetensors/index.js")).resolves.toHaveProperty("SafetensorsFile");
});
