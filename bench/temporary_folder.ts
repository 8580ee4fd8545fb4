import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A new folder in that for temporary files; removed when it is disposed of, at the latest when the process exits. */
export class TemporaryFolder implements Disposable {
  readonly path: string;

  /** @param prefix of its name. */
  constructor(prefix: string) {
    this.path = mkdtempSync(join(tmpdir(), prefix));
    process.once("exit", this.#remove);
  }

  readonly #remove = (): void => {
    rmSync(this.path, { recursive: true, force: true });
  };

  [Symbol.dispose](): void {
    process.off("exit", this.#remove);
    this.#remove();
  }
}
