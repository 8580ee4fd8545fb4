import { defineConfig } from "vitest/config";
import { reportsLeftOut } from "../left_out_reporter.js";

// Two projects, as in the configuration of all tests.
export default defineConfig({
  oxc: { target: "es2022" },
  plugins: [reportsLeftOut],
  test: {
    root: import.meta.dirname,
    projects: ["some", "failing"].map((name) => ({
      extends: true,
      test: { name, include: [`${name}.fixture.ts`] },
    })),
  },
});
