import { defineConfig } from "vitest/config";
import { reportsLeftOut } from "../left_out_reporter.js";

export default defineConfig({
  oxc: { target: "es2022" },
  plugins: [reportsLeftOut],
  test: { root: import.meta.dirname, include: ["*.fixture.ts"] },
});
