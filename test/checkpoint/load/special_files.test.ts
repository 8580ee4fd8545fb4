import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, ShardedCheckpoint } from "../../../lib/checkpoint/safetensors/index.js";
import { readJsonObject } from "../../../lib/checkpoint/safetensors/strict_json.js";
import { MoeLayer, openDevice } from "../../../lib/index.js";
import { expectRejection } from "../../support/errors.js";
import { goldenModel, writeModel } from "../support/model_directory.js";
import { rawSafetensors } from "../support/raw_safetensors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** Files that are not regular. */
const kinds: Record<string, (path: string) => unknown> = {
  "a directory": (path) => mkdirSync(path),
  "a pipe": (path) => execFileSync("mkfifo", [path]),
  "a device": (path) => symlinkSync("/dev/zero", path),
};

describe.each(Object.entries(kinds))("%s is refused in place of", (kind, make) => {
  const message = new RegExp(`cannot be read: expected a regular file, got ${kind}$`);

  test.each(["config.json", "model.safetensors", "model.safetensors.index.json"])("%s", async (name) => {
    using directory = temporaryDirectory();
    if (name !== "config.json") writeFileSync(join(directory.path, "config.json"), '{"model_type":"mixtral"}');
    make(join(directory.path, name));
    using device = openDevice("reference");
    await expectRejection(MoeLayer.load(directory.path, { layer: 0, device }), "BAD_CHECKPOINT", message);
  });

  test("a layer file", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "layer.safetensors");
    make(path);
    using device = openDevice("reference");
    const expected =
      kind === "a directory"
        ? /layer\.safetensors: expected config\.json in the directory, got an empty folder$/
        : /: expected a model directory, NAME\.gguf or a layer file NAME\.safetensors, got a device or a pipe$/;
    await expectRejection(MoeLayer.load(path as "x.safetensors", { device }), "BAD_CHECKPOINT", expected);
  });
});

test("symbolic links to files are followed, as in model caches", async () => {
  using directory = temporaryDirectory();
  const model = await goldenModel("mixtral_small");
  await writeModel(directory.path, model);
  mkdirSync(join(directory.path, "blobs"));
  for (const name of ["config.json", "model.safetensors"]) {
    renameSync(join(directory.path, name), join(directory.path, "blobs", name));
    symlinkSync(join("blobs", name), join(directory.path, name));
  }
  using device = openDevice("reference");
  using layer = await MoeLayer.load(directory.path, { layer: 0, device });
  expect(layer.description.numExperts).toBe(model.layerFile.config.numExperts);
});

test("JSON files of more than 100 MB are refused", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "config.json");
  writeFileSync(path, "");
  truncateSync(path, 100_000_001);
  await expectRejection(readJsonObject(path), "BAD_CHECKPOINT", /JSON file of at most 100000000 bytes, got 100000001$/);
});

describe("a signal stops the reading of headers", () => {
  const enough = new Error("enough");

  test("before it starts", async () => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await goldenModel("mixtral_small"));
    const signal = AbortSignal.abort(enough);
    using device = openDevice("reference");
    await expect(MoeLayer.load(directory.path, { layer: 0, device, signal })).rejects.toBe(enough);
    await expect(ShardedCheckpoint.open(directory.path, { signal })).rejects.toBe(enough);
  });

  test("while it parses", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "many.safetensors");
    const entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
    const entries = Array.from({ length: 2e5 }, (_, index) => `"${index}":${entry}`);
    writeFileSync(path, rawSafetensors(`{${entries.join(",")}}`));
    const controller = new AbortController();
    let reads = 0;
    const signal = controller.signal;
    const throwIfAborted = signal.throwIfAborted.bind(signal);
    // The first two calls are for reading the length and the header, the third is from the parser.
    signal.throwIfAborted = () => {
      if (++reads === 3) controller.abort(enough);
      throwIfAborted();
    };
    await expect(SafetensorsFile.open(path, { signal })).rejects.toBe(enough);
    expect(reads).toBe(3);
  });
});
