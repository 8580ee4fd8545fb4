import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { Device } from "../../../lib/index.js";
import { type PublicCall, publicCalls } from "./index.js";

/** Every public function with arguments, and the directory of its files; released with the device after a file's tests. */
export async function callsForTests(
  device: Device,
): Promise<{ readonly calls: readonly PublicCall[]; readonly directory: string }> {
  const directory = mkdtempSync(join(tmpdir(), "moe-kernels-calls-"));
  const { calls, close } = await publicCalls(device, directory);
  afterAll(async () => {
    await close();
    device.dispose();
    rmSync(directory, { recursive: true });
  });
  return { calls, directory };
}
