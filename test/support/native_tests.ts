import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";

/** Defines one test for every test of the native test program at `path` in the build folder. */
export function nativeTests(path: string): void {
  const program = join(packageRoot(), "build", path);
  const names = execFileSync(program, ["--list"], { encoding: "utf8" }).trim().split("\n");
  const { stdout, signal } = spawnSync(program, { encoding: "utf8", maxBuffer: 2 ** 26 });
  const lines = stdout.split("\n");

  describe(path, () => {
    it("runs to its end", () => {
      expect(signal).toBeNull();
      expect(lines.at(-2)).toMatch(/^\d+ passed, \d+ failed$/);
    });
    it.each(names)("%s", (name) => {
      const failed = lines.indexOf(`FAIL ${name}`);
      const detail =
        failed < 0 ? [] : lines.slice(failed).filter((line, index) => index === 0 || line.startsWith("  "));
      expect(detail).toEqual([]);
      expect(lines).toContain(`pass ${name}`);
    });
  });
}
