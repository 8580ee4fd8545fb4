import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Begins with the files that take longest, so that none of them is still running when all others have ended. */
class LongestFirst extends BaseSequencer {
  static readonly #longest = ["test/package/package.test.ts", "test/testing/table.test.ts"];

  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => LongestFirst.#longest.some((name) => moduleId.endsWith(name));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  // Node 20 cannot parse `using`; the transform lowers it, as tsc does.
  oxc: { target: "es2022" },
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/support/seed.ts", "test/support/equality.ts"],
    // The addon is loaded by child processes, so that a crash names its test file.
    pool: "forks",
    // One more than Vitest's default of cores - 1: its own process mostly waits.
    maxWorkers: availableParallelism(),
    sequence: { sequencer: LongestFirst },
    testTimeout: 0,
    hookTimeout: 0,
    typecheck: { enabled: true, include: ["test/types/*.test-d.ts"], tsconfig: "test/types/tsconfig.json" },
  },
});
