import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface TemporaryDirectory extends Disposable {
  readonly path: string;
  /** The path of something to make in it, with a name that no other has; `ending` ends it. */
  readonly fresh: (ending?: string) => string;
}

/** A new directory that is removed with its contents when it goes out of scope. */
export function temporaryDirectory(): TemporaryDirectory {
  const path = mkdtempSync(join(tmpdir(), "moe-kernels-"));
  let made = 0;
  return {
    path,
    fresh: (ending = "") => join(path, `made-${made++}${ending}`),
    [Symbol.dispose]: () => rmSync(path, { recursive: true }),
  };
}
