import { defineConfig } from "vitest/config";

export default defineConfig({
  // Node 20 cannot parse `using`; the transform lowers it, as tsc does.
  oxc: { target: "es2022" },
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/support/seed.ts"],
    // The addon is loaded by child processes, so that a crash names its test file.
    pool: "forks",
    testTimeout: 0,
    hookTimeout: 0,
    typecheck: { enabled: true, include: ["test/types/*.test-d.ts"], tsconfig: "test/types/tsconfig.json" },
  },
});
