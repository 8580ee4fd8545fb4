import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MoeLayer, openDevice, openModel } from "../../../lib/index.js";
import { runCli } from "../../cli/support/run_cli.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// What people try first with the path of a model: the error tells what to do, the same everywhere.

const config = JSON.stringify({ model_type: "mixtral", num_hidden_layers: 1 });
const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4976698672\n";

interface Attempt {
  readonly files: Readonly<Record<string, string>>;
  /** The path within a folder with these files. */
  readonly path: string;
  readonly message: RegExp;
}

const attempts: Readonly<Record<string, Attempt>> = {
  "a PyTorch file": {
    files: { "pytorch_model.bin": "PK" },
    path: "pytorch_model.bin",
    message: /got a file of PyTorch; only safetensors and GGUF are read: in Python, .*save_pretrained/,
  },
  "a directory of PyTorch files": {
    files: { "pytorch_model-00001-of-00002.bin": "PK", "pytorch_model-00002-of-00002.bin": "PK" },
    path: "",
    message: /expected config\.json in the directory, got "pytorch_model-00001-of-00002\.bin" or .*files of PyTorch/,
  },
  "a directory of GGUF files": {
    files: { "a-Q4_K_M.gguf": "", "b-00001-of-00002.gguf": "", "b-00002-of-00002.gguf": "", "mmproj-f16.gguf": "" },
    path: "",
    message: /got GGUF files; pass "[^"]*a-Q4_K_M\.gguf" or "[^"]*b-00001-of-00002\.gguf"$/,
  },
  "weights without config.json": {
    files: { "model.safetensors": "" },
    path: "",
    message: /expected config\.json in the directory, got "model\.safetensors"; download config\.json too/,
  },
  "another folder": {
    files: { "notes.txt": "" },
    path: "",
    message: /expected config\.json in the directory, got files of other names$/,
  },
  "config.json itself": {
    files: { "config.json": config },
    path: "config.json",
    message: /expected a model directory, got one of its files; pass "[^"]*moe-kernels-\w+"$/,
  },
  "one shard of a model": {
    files: { "config.json": config, "model-00001-of-00002.safetensors": "" },
    path: "model-00001-of-00002.safetensors",
    message: /got one of its files; pass "/,
  },
  "a folder of the hub's cache": {
    files: { "snapshots/0123abcd/config.json": config },
    path: "",
    message: /huggingface_hub's cache; pass "[^"]*snapshots.0123abcd"$/,
  },
  "a checkpoint that quantize has not completed": {
    files: { "moe-kernels-quantize.json": "{}", "model-00001-of-00002.safetensors": "" },
    path: "",
    message: /got one that `moe-kernels quantize` has not completed; run the same command with --resume$/,
  },
  "an adapter": {
    files: { "adapter_config.json": "{}", "adapter_model.safetensors": "" },
    path: "",
    message: /an adapter \(PEFT\); merge it into its base model first$/,
  },
  "another file": {
    files: { "model.onnx": "x" },
    path: "model.onnx",
    message: /NAME\.gguf or a layer file .*got another file$/,
  },
  "a pointer of Git LFS in place of the weights": {
    files: { "config.json": config, "model.safetensors": pointer },
    path: "",
    message: /model\.safetensors: expected a safetensors file, got a pointer of Git LFS; .*git lfs pull/,
  },
  "a pointer of Git LFS in place of a GGUF file": {
    files: { "model.gguf": pointer },
    path: "model.gguf",
    message: /model\.gguf: expected a GGUF file, got a pointer of Git LFS/,
  },
  "a GGUF file in place of the weights": {
    files: { "config.json": config, "model.safetensors": "GGUF\x03\0\0\0" },
    path: "",
    message: /model\.safetensors: expected a safetensors file, got a GGUF file; give it a name that ends in \.gguf$/,
  },
  "a GGUF file with the name of a PyTorch file": {
    files: { "config.json": config, "model.bin": "GGUF\x03\0\0\0" },
    path: "model.bin",
    message: /model\.bin: expected NAME\.gguf, got a GGUF file; give it a name that ends in \.gguf$/,
  },
  "a GGUF file whose name has no ending": {
    files: { "sha256-0123": "GGUF\x03\0\0\0" },
    path: "sha256-0123",
    message: /sha256-0123: expected NAME\.gguf, got a GGUF file; give it a name that ends in \.gguf$/,
  },
  "a PyTorch file in place of the weights": {
    files: { "config.json": config, "model.safetensors": "PK\x03\x04\0\0\x08\x08" },
    path: "",
    message: /model\.safetensors: expected a safetensors file, got a file of PyTorch; only safetensors and GGUF/,
  },
  "a web page in place of a GGUF file": {
    files: { "model.gguf": "<!DOCTYPE html><html>" },
    path: "model.gguf",
    message: /model\.gguf: expected a GGUF file, got a web page; download the file itself$/,
  },
  "an unknown family": {
    files: { "config.json": '{"model_type":"gpt9"}' },
    path: "",
    message:
      /got "gpt9"; say what .*\{ config, tensors \}\) or registerFamily\(family\)\. `moe-kernels info --families`/,
  },
};

function write(folder: string, files: Attempt["files"]): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, ".."), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

const device = openDevice("reference");

/** The messages of everything that opens a model. */
async function messages(path: string): Promise<string[]> {
  const message = (error: Error & { code?: string }) => `${error.code} ${error.message}`;
  const loaded = MoeLayer.load(path, { layer: 0, device }).then(() => "loaded", message);
  const opened = openModel(path).then((model) => model.close().then(() => "opened"), message);
  const { stderr } = await runCli(["inspect", path]);
  return [await loaded, await opened, stderr.trim()];
}

test.each(Object.entries(attempts))("%s", async (_, { files, path, message }) => {
  using directory = temporaryDirectory();
  write(directory.path, files);
  for (const text of await messages(join(directory.path, path).replace(/\/$/, ""))) {
    expect(text).toContain("BAD_CHECKPOINT");
    expect(text).toMatch(message);
  }
});

test("a folder of the hub's cache with links that lead nowhere", async () => {
  using directory = temporaryDirectory();
  write(directory.path, { "snapshots/0123abcd/config.json": config });
  symlinkSync(join(directory.path, "none"), join(directory.path, "snapshots", "4567cdef"));
  for (const text of await messages(directory.path)) expect(text).toMatch(/pass "[^"]*snapshots.0123abcd"$/);
});

describe("a directory with config.json and other weights can be opened, and says why it has none", () => {
  test.each([
    ["pytorch_model.bin", /got "pytorch_model\.bin", files of PyTorch; only safetensors and GGUF/],
    ["model-Q8_0.gguf", /got GGUF files; pass "[^"]*model-Q8_0\.gguf"/],
    ["model-00001-of-00002.safetensors", /download model\.safetensors\.index\.json too, which belongs to these/],
    ["gptq_model-4bit-128g.safetensors", /if it has all of the model's weights, rename it to model\.safetensors/],
    ["consolidated.00.safetensors", /the layout of Mistral's own software; download the files for transformers/],
  ])("%s", async (name, message) => {
    using directory = temporaryDirectory();
    write(directory.path, { "config.json": config, [name]: "" });
    await expect(MoeLayer.load(directory.path, { layer: 0, device })).rejects.toThrow(message);
    await using model = await openModel(directory.path);
    expect(model.hasWeights).toBe(false);
    await expect(model.load(0, { device })).rejects.toThrow(message);
    const { stdout, exitCode } = await runCli(["inspect", directory.path]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(message);
    const { stderr } = await runCli([
      "quantize",
      directory.path,
      "--format",
      "int8",
      "--out",
      join(directory.path, "q"),
    ]);
    expect(stderr).toMatch(message);
  });
});

describe("the id of a repository", () => {
  const { HF_HUB_CACHE: before } = process.env;
  let directory: ReturnType<typeof temporaryDirectory>;
  beforeEach(() => {
    directory = temporaryDirectory();
    process.env.HF_HUB_CACHE = directory.path;
  });
  afterEach(() => {
    if (before === undefined) delete process.env.HF_HUB_CACHE;
    else process.env.HF_HUB_CACHE = before;
    directory[Symbol.dispose]();
  });

  test.each([
    "mistralai/Mixtral-8x7B-v0.1",
    "https://huggingface.co/mistralai/Mixtral-8x7B-v0.1/tree/main",
    "hf://mistralai/Mixtral-8x7B-v0.1",
  ])("%s", async (path) => {
    const remedy = "hf download mistralai/Mixtral-8x7B-v0.1 --local-dir Mixtral-8x7B-v0.1";
    for (const text of await messages(path)) {
      expect(text).toContain(
        `no such file or directory; if it is a model of huggingface.co, download it with \`${remedy}\``,
      );
    }
    const snapshot = join(directory.path, "models--mistralai--Mixtral-8x7B-v0.1", "snapshots", "abc");
    mkdirSync(snapshot, { recursive: true });
    for (const text of await messages(path)) expect(text).toContain(`has this model: pass ${JSON.stringify(snapshot)}`);
  });

  test("other paths where nothing is are not taken for one", async () => {
    for (const path of ["none", "./none", "../a/b", join(directory.path, "none"), "a/b.gguf"]) {
      const place = isAbsolute(path) ? "" : ` in ${process.cwd()}`;
      for (const text of await messages(path)) {
        const found = `${path}: expected a model directory, a GGUF file or a layer file, got no such file or directory${place}`;
        expect(text.endsWith(found)).toBe(true);
      }
    }
  });
});
