import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GgufFile, SplitGguf } from "../../../lib/checkpoint/gguf/index.js";
import {
  parseSafetensors,
  SafetensorsFile,
  ShardedCheckpoint,
  serializeSafetensors,
  writeSafetensors,
  writeShardedSafetensors,
} from "../../../lib/checkpoint/safetensors/index.js";
import { rawGguf } from "../gguf.js";
import { type Part, transfer } from "./call.js";

/** Readers and writers of files in `directory`. */
export async function fileCalls(directory: string): Promise<Part> {
  const file = join(directory, "tensors.safetensors");
  const tensors = { x: { dtype: "U8", shape: [1], data: Uint8Array.of(1) } } as const;
  await writeSafetensors(file, tensors);
  const opened = await SafetensorsFile.open(file);
  const checkpointFolder = join(directory, "checkpoint");
  mkdirSync(checkpointFolder);
  await writeSafetensors(join(checkpointFolder, "model.safetensors"), tensors);
  const checkpoint = await ShardedCheckpoint.open(checkpointFolder);
  const gguf = join(directory, "tensors.gguf");
  writeFileSync(gguf, rawGguf({ tensors: [{ name: "x", type: "I8", shape: [1] }] }));
  const openedGguf = await GgufFile.open(gguf);
  const split = await SplitGguf.open(gguf);
  return {
    calls: [
      {
        name: "writeSafetensors",
        args: [join(directory, "new.safetensors"), tensors],
        call: writeSafetensors,
        valid: [{ metadata: { a: "b" }, alignment: 64, ...transfer }],
      },
      {
        name: "writeShardedSafetensors",
        args: [join(directory, "shards"), tensors],
        call: async (path, given, options) => {
          if (path === join(directory, "shards")) rmSync(path, { recursive: true, force: true });
          if (path === join(directory, "shards")) mkdirSync(path);
          return await writeShardedSafetensors(path, given, options);
        },
        valid: [{ metadata: { a: "b" }, alignment: 64, maximumShardBytes: 10, ...transfer }],
      },
      {
        name: "serializeSafetensors",
        args: [tensors],
        call: serializeSafetensors,
        valid: [{ metadata: {}, alignment: 64 }],
      },
      { name: "parseSafetensors", args: [serializeSafetensors(tensors)], call: parseSafetensors },
      {
        name: "SafetensorsFile.open",
        args: [file],
        call: SafetensorsFile.open,
        valid: [{ signal: transfer.signal }],
      },
      { name: "SafetensorsFile.info", args: ["x"], call: opened.info.bind(opened) },
      { name: "SafetensorsFile.read", args: ["x"], call: opened.read.bind(opened), valid: [transfer] },
      {
        name: "SafetensorsFile.readInto",
        args: ["x", new Uint8Array(1)],
        call: opened.readInto.bind(opened),
        valid: [transfer],
      },
      {
        name: "SafetensorsFile.readRange",
        args: ["x", 0, new Uint8Array(1)],
        call: opened.readRange.bind(opened),
        valid: [transfer],
      },
      {
        name: "ShardedCheckpoint.open",
        args: [checkpointFolder],
        call: ShardedCheckpoint.open,
        valid: [{ signal: transfer.signal }],
      },
      {
        name: "ShardedCheckpoint.find",
        args: [checkpointFolder],
        call: ShardedCheckpoint.find,
        valid: [{ signal: transfer.signal }],
      },
      { name: "ShardedCheckpoint.fileOf", args: ["x"], call: checkpoint.fileOf.bind(checkpoint) },
      { name: "ShardedCheckpoint.has", args: ["x"], call: checkpoint.has.bind(checkpoint) },
      { name: "GgufFile.open", args: [gguf], call: GgufFile.open, valid: [{ signal: transfer.signal }] },
      { name: "GgufFile.info", args: ["x"], call: openedGguf.info.bind(openedGguf) },
      { name: "GgufFile.read", args: ["x"], call: openedGguf.read.bind(openedGguf), valid: [transfer] },
      {
        name: "GgufFile.readRange",
        args: ["x", 0, new Uint8Array(1)],
        call: openedGguf.readRange.bind(openedGguf),
        valid: [transfer],
      },
      { name: "SplitGguf.open", args: [gguf], call: SplitGguf.open, valid: [{ signal: transfer.signal }] },
      { name: "SplitGguf.fileOf", args: ["x"], call: split.fileOf.bind(split) },
      { name: "SplitGguf.has", args: ["x"], call: split.has.bind(split) },
    ],
    async close() {
      for (const file of [opened, checkpoint, openedGguf, split]) await file.close();
    },
  };
}
