import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { reportsLeftOut } from "./test/support/left_out_reporter.js";

/** Leaves short files for the end, so that the last of all processes is not busy for long after the others. */
class ShortLast extends BaseSequencer {
  /** Folders with the files that take longest: most of these run programs. */
  static readonly #long = /\/test\/(bench|docs|native|package|process|scripts|testing)\//;

  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // Files that share processes are in one row: a process ends where the next file wants one alone.
    const rank = ({ moduleId, project }: TestSpecification) =>
      project.name === "alone" ? 0 : ShortLast.#long.test(moduleId) ? 1 : 2;
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

const alone = "test/**/*.alone.test.ts";

export default defineConfig({
  // Node 20 cannot parse `using`; the transform lowers it, as tsc does.
  oxc: { target: "es2022" },
  plugins: [reportsLeftOut],
  test: {
    setupFiles: ["test/support/setup.ts"],
    // The addon is loaded by child processes: a crash fails the file that ran, and the next ones get a new process.
    pool: "forks",
    // One more than Vitest's default of cores - 1: its own process mostly waits.
    maxWorkers: availableParallelism(),
    sequence: { sequencer: ShortLast },
    testTimeout: 0,
    hookTimeout: 0,
    projects: [
      {
        extends: true,
        test: {
          name: "shared",
          include: ["test/**/*.test.ts"],
          exclude: [alone],
          // Importing the library takes longer than most files do. Files follow one another in a process.
          isolate: false,
          typecheck: { enabled: true, include: ["test/types/*.test-d.ts"], tsconfig: "test/types/tsconfig.json" },
        },
      },
      // What mocks modules or adds to tables of the library, so that others would see it.
      { extends: true, test: { name: "alone", include: [alone] } },
    ],
  },
});
