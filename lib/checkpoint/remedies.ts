import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import { isMoeError, type MoeError } from "../core/errors.js";
import { homeFolder, workingFolder } from "../core/files/process_folders.js";
import { badCheckpoint } from "./bad_checkpoint.js";
import { RegularFile } from "./safetensors/regular_file.js";

// What people try first with the path of a model, and what to do instead. Readers of files know nothing of this: their
// errors are explained afterwards, by looking at what is at the path.

export const configName = "config.json";
export const singleName = "model.safetensors";
export const indexName = "model.safetensors.index.json";
/** What a folder that `moe-kernels quantize` writes has while it is incomplete. */
export const quantizeStateName = "moe-kernels-quantize.json";

/** Whether only Python's pickle reads a file, which may run code. */
export const isPickled = (name: string) => /\.(bin|pt|pth|ckpt|pkl)$/.test(name);
/** Shards of a GGUF model other than the first, and files beside a model: projectors, importance matrices. */
const notFirstGguf = /-(?!00001-)\d{5}-of-\d{5}\.gguf$|^mmproj|imatrix/;

/** The weights of a model directory: a layer file may lie beside a config.json too. */
const partOfModel = /^(model|pytorch_model|consolidated)\b|-\d{5}-of-\d{5}\.safetensors$/;

const convert =
  "only safetensors and GGUF are read: in Python, `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR2)` " +
  "of transformers writes a directory of safetensors";

/** How many names of files are listed. */
const shown = 4;

/** The error for a model directory without the weights' files, which tells what it has instead. */
export async function missingWeights(directory: string): Promise<MoeError> {
  const expected = `expected ${singleName} or ${indexName} in the directory, got`;
  const found = otherWeights(directory, await namesIn(directory));
  return badCheckpoint(directory, found === undefined ? `${expected} neither` : `${expected} ${found}`);
}

/**
 * The error to throw for a path that could not be opened as a model: one that tells what is there and what to do, if that
 * is known, or else the error itself.
 */
export async function explainPath(path: string, error: unknown): Promise<unknown> {
  if (!isMoeError(error, "BAD_CHECKPOINT")) return error;
  const kind = await kindOf(path);
  if (kind === "nothing") return badCheckpoint(path, await absent(path), error);
  const problem = await (kind === "file" ? otherFile(path) : kind === "special" ? special : otherDirectory(path));
  return problem === undefined ? error : badCheckpoint(path, problem, error);
}

const special = "expected a model directory, NAME.gguf or a layer file NAME.safetensors, got a device or a pipe";

/** How other files begin that are under the name of a model's, and what to do. */
const otherBeginnings = {
  // What `git clone` leaves in place of large files.
  "version https://git-lfs": "a pointer of Git LFS; `git lfs pull` in its directory downloads the file itself",
  GGUF: "a GGUF file; give it a name that ends in .gguf",
  // Python's pickles are in archives of zip.
  "PK\x03\x04": `a file of PyTorch; ${convert}`,
  "<!DOCTYPE html": "a web page; download the file itself",
  "<!doctype html": "a web page; download the file itself",
} as const;

/** Refuses what begins as another kind of file. @param format of the file that was expected. */
export function checkBeginning(path: string, firstBytes: Uint8Array, format: string): void {
  for (const [beginning, found] of Object.entries(otherBeginnings)) {
    const begins = Buffer.from(firstBytes.subarray(0, beginning.length)).toString("latin1");
    if (begins.length < 4 || !beginning.startsWith(begins)) continue;
    throw badCheckpoint(path, `expected a ${format} file, got ${found}`);
  }
}

async function kindOf(path: string): Promise<"nothing" | "file" | "directory" | "special" | "unknown"> {
  try {
    const stats = await stat(path);
    return stats.isDirectory() ? "directory" : stats.isFile() ? "file" : "special";
  } catch (error) {
    return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "") ? "nothing" : "unknown";
  }
}

/** What there is of a path; undefined for nothing, and if that cannot be found out. */
async function statsIn(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch {
    return undefined;
  }
}

/** How a file begins; empty if it cannot be read. */
async function firstBytes(path: string, count: number): Promise<string> {
  try {
    await using file = await RegularFile.open(path);
    const bytes = Buffer.alloc(count);
    await file.read(bytes, 0);
    return bytes.toString("latin1");
  } catch {
    return "";
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  return (await readableNames(directory)) ?? [];
}

/** Undefined for a directory that cannot be read. */
async function readableNames(directory: string): Promise<readonly string[] | undefined> {
  try {
    return (await readdir(directory)).toSorted();
  } catch {
    return undefined;
  }
}

/** A path where nothing is: perhaps the id of a repository, or an address. */
async function absent(path: string): Promise<string> {
  const remedy = await hubRemedy(path);
  const place =
    remedy !== undefined || isAbsolute(path) ? "" : ` in ${workingFolder() ?? "a working folder that was removed"}`;
  return `expected a model directory, a GGUF file or a layer file, got no such file or directory${place}${remedy ?? ""}`;
}

/** Where the model is if the path is the id of a repository; undefined if it is not. */
async function hubRemedy(path: string): Promise<string | undefined> {
  const [, id] =
    /^(?:hf:\/\/|https?:\/\/(?:www\.)?huggingface\.co\/)?([\w.-]+\/[\w.-]+?)(?:\/tree\/.*|\/)?$/.exec(path) ?? [];
  if (id === undefined || id.startsWith(".") || /\.(gguf|safetensors|json|bin)$/.test(id)) return undefined;
  const [owner, name] = id.split("/") as [string, string];
  const cached = await cachedSnapshot(owner, name);
  return cached === undefined
    ? `; if it is a model of huggingface.co, download it with \`hf download ${id} --local-dir ${name}\` and pass ${JSON.stringify(name)}`
    : `; the cache of huggingface_hub has this model: pass ${JSON.stringify(cached)}`;
}

/** The newest snapshot of a repository in the cache of huggingface_hub, if it is there. */
async function cachedSnapshot(owner: string, name: string): Promise<string | undefined> {
  const { HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env;
  const caches = XDG_CACHE_HOME ?? inFolder(homeFolder(), ".cache");
  const hub = HF_HUB_CACHE ?? inFolder(HF_HOME ?? inFolder(caches, "huggingface"), "hub");
  return hub && (await newestSnapshot(join(hub, `models--${owner}--${name}`)));
}

function inFolder(folder: string | undefined, name: string): string | undefined {
  return folder && join(folder, name);
}

async function newestSnapshot(repository: string): Promise<string | undefined> {
  const folder = join(repository, "snapshots");
  const dated = await Promise.all(
    (await namesIn(folder)).map(async (name) => ({ name, time: (await statsIn(join(folder, name)))?.mtimeMs })),
  );
  const [newest] = dated.filter(({ time }) => time !== undefined).toSorted((a, b) => Number(b.time) - Number(a.time));
  return newest && join(folder, newest.name);
}

async function otherFile(path: string): Promise<string | undefined> {
  const name = basename(path);
  const directory = dirname(path);
  if (!name.endsWith(".gguf") && (await firstBytes(path, 4)) === "GGUF") {
    return `expected NAME.gguf, got ${otherBeginnings.GGUF}`;
  }
  if (isPickled(name)) return `expected a model directory, got a file of PyTorch; ${convert}`;
  const siblings = await namesIn(directory);
  const isPart = name.endsWith(".safetensors") ? partOfModel.test(name) : !name.endsWith(".gguf");
  if (isPart && siblings.includes(configName)) {
    return `expected a model directory, got one of its files; pass ${JSON.stringify(directory)}`;
  }
  if (/\.(gguf|safetensors)$/.test(name)) return undefined;
  return "expected a model directory, NAME.gguf or a layer file NAME.safetensors, got another file";
}

async function otherDirectory(directory: string): Promise<string | undefined> {
  const names = await readableNames(directory);
  if (names === undefined || names.includes(configName)) return undefined;
  const snapshot = names.includes("snapshots") ? await newestSnapshot(directory) : undefined;
  if (snapshot !== undefined) {
    return `expected a model directory, got a folder of huggingface_hub's cache; pass ${JSON.stringify(snapshot)}`;
  }
  if (names.includes(quantizeStateName)) {
    return "expected a model directory, got one that `moe-kernels quantize` has not completed; run the same command with --resume";
  }
  if (names.includes("adapter_config.json")) {
    return `expected a model directory with ${configName}, got an adapter (PEFT); merge it into its base model first`;
  }
  const found = otherWeights(directory, names);
  const others = names.length === 0 ? "an empty folder" : "files of other names";
  return `expected ${configName} in the directory, got ${found ?? others}`;
}

/** Weights that are not read from a model directory, and what to do; undefined if there are none. */
function otherWeights(directory: string, names: readonly string[]): string | undefined {
  const gguf = names.filter((name) => name.endsWith(".gguf") && !notFirstGguf.test(name));
  if (gguf.length > 0) return `GGUF files; pass ${listed(gguf.map((name) => join(directory, name)))}`;
  const safetensors = names.filter((name) => name.endsWith(".safetensors"));
  if (safetensors.some((name) => name.startsWith("consolidated"))) {
    return `${listed(safetensors)}, the layout of Mistral's own software; download the files for transformers, with ${configName} and ${indexName}`;
  }
  if (
    safetensors.length === 1 &&
    names.includes(configName) &&
    !/-\d{5}-of-\d{5}\.safetensors$/.test(safetensors[0] as string)
  ) {
    return `${listed(safetensors)}; if it has all of the model's weights, rename it to ${singleName}`;
  }
  if (safetensors.length > 0) {
    return `${listed(safetensors)}; download ${names.includes(configName) ? indexName : configName} too, which belongs to these`;
  }
  const pytorch = names.filter(isPickled);
  return pytorch.length > 0 ? `${listed(pytorch)}, files of PyTorch; ${convert}` : undefined;
}

function listed(names: readonly string[]): string {
  const more = names.length > shown ? ` or one of ${names.length - shown} more` : "";
  return (
    names
      .slice(0, shown)
      .map((name) => JSON.stringify(name))
      .join(" or ") + more
  );
}
