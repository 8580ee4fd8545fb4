import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openModel } from "../../../lib/index.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { needs } from "../../support/requirements.js";
import { modelDirectory, run } from "../support/cached_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** Runs `work` without superuser rights, which allow writing everywhere. */
async function asOrdinaryUser<T>(work: () => T | Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return await work();
  process.seteuid?.(65534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

describe("a cache", () => {
  const device = openForTests("cpu");

  test("in a folder that cannot be created does not prevent loading, and says why", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const blocker = join(path, "blocker");
    writeFileSync(blocker, "");
    const { status, result } = await run(path, model, device(), { cache: blocker });
    expect(status).toMatchObject({
      state: "failed",
      reason: expect.stringMatching(/cannot be written: (ENOTDIR|EEXIST)/),
    });
    expect(result).toEqual((await run(path, model, device())).result);
  });

  test("that cannot be replaced leaves nothing behind", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const first = await run(path, model, device());
    rmSync(first.status.path);
    mkdirSync(join(first.status.path, "full"), { recursive: true });
    const { status, result } = await run(path, model, device());
    expect(status).toMatchObject({
      state: "failed",
      reason: expect.stringMatching(/cannot be read: expected a regular file.*; .*written: E/),
    });
    expect(result).toEqual(first.result);
    expect(readdirSync(join(path, ".moe-kernels"))).toHaveLength(1);
  });

  test("works in a read-only model directory, and says so", needs("an ordinary user"), async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    chmodSync(path, 0o555);
    const { status } = await asOrdinaryUser(() => run(path, model, device()));
    chmodSync(path, 0o755);
    expect(status).toMatchObject({ state: "failed", reason: expect.stringMatching(/cannot be written: EACCES/) });
  });

  test.each([0, 1])("of a model whose directory is renamed while it is open, after %i loads", async (loads) => {
    using directory = await modelDirectory();
    using elsewhere = temporaryDirectory();
    const [path, cache] = [join(elsewhere.path, "model"), join(elsewhere.path, "caches")];
    cpSync(directory.path, path, { recursive: true });
    await using model = await openModel(path);
    for (let load = 0; load < loads; load++) (await model.load(0, { device: device(), cache })).dispose();
    renameSync(path, join(elsewhere.path, "moved"));
    using layer = await model.load(0, { device: device(), cache });
    expect(layer.cacheStatus).toEqual({
      state: "failed",
      path: "",
      reason: expect.stringMatching(/cannot be read: ENOENT/),
    });
    await expectRejection(
      model.load(0, { device: device(), cache, offload: { slots: 1 } }),
      "UNSUPPORTED_OPERATION",
      /^offload: the cache cannot be used: .*cannot be read: ENOENT/,
    );
    renameSync(join(elsewhere.path, "moved"), path);
    using again = await model.load(0, { device: device(), cache });
    expect(again.cacheStatus?.state).toBe(loads === 0 ? "written" : "mapped");
  });

  test("of several models share a folder", async () => {
    using one = await modelDirectory("olmoe_small");
    using two = await modelDirectory("mixtral_small");
    using caches = temporaryDirectory();
    const cache = join(caches.path, "made", "when", "needed");
    for (const { path, model } of [one, two]) {
      expect((await run(path, model, device(), { cache })).status.state).toBe("written");
    }
    for (const { path, model } of [one, two]) {
      expect((await run(path, model, device(), { cache })).status.state).toBe("mapped");
    }
    expect(readdirSync(cache)).toHaveLength(2);
    expect(existsSync(join(one.path, ".moe-kernels"))).toBe(false);
  });
});
