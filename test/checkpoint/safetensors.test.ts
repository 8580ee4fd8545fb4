import { expect, test, vi } from "vitest";

vi.mock("../../lib/native.js", () => {
  throw new Error("the native loader was imported");
});

test("the safetensors module needs neither addon nor devices", async () => {
  await expect(import("../../lib/device.js")).rejects.toThrow();
  await expect(import("../../lib/checkpoint/safetensors.js")).resolves.toHaveProperty("SafetensorsFile");
});
