import { afterEach, describe, test, vi } from "vitest";
import { openModel } from "../../lib/index.js";
import { expectRejection } from "../support/errors.js";

vi.mock("node:os", async (original) => ({
  ...(await original<typeof import("node:os")>()),
  homedir: () => {
    throw new Error("uv_os_homedir returned ENOENT");
  },
}));

describe("the error about a model that is not there", () => {
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
  });

  test("needs no folder of the user", async () => {
    for (const name of ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"]) vi.stubEnv(name, undefined);
    await expectRejection(openModel("owner/name"), "BAD_CHECKPOINT", /download it with `hf download owner\/name/);
  });

  test("says that the working folder was removed", async () => {
    vi.spyOn(process, "cwd").mockImplementation(() => {
      throw new Error("ENOENT: no such file or directory, uv_cwd");
    });
    await expectRejection(openModel("a-model"), "BAD_CHECKPOINT", /in a working folder that was removed/);
  });
});
