import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { missingFlags } from "./cpu_flags.js";
import { ggufFormats, type PeerFormat } from "./formats.js";
import { llamaCppCommand } from "./llama_cpp.js";
import { onednnCommand } from "./onednn.js";
import { onnxruntimeMissing, programsFolder } from "./onnxruntime.js";

/** A program and its arguments. */
export type Command = readonly [program: string, ...args: string[]];

/** Other software that computes the same layer. */
export interface Peer {
  readonly name: string;
  readonly formats: readonly PeerFormat[];
  readonly variant: string;
  /** Whether it can train. */
  readonly trains?: true;
  /** Why it does not compute this layer here; missing if it computes all. */
  lacks?(config: MoeLayerConfig, format: PeerFormat): string | undefined;
  /** The command that runs it; text if this machine cannot: why, or what to do about it. */
  command(): Command | string;
}

type Program = Pick<Peer, "command">;

const onnxruntime: Program = {
  command: () => onnxruntimeMissing() ?? [process.execPath, join(programsFolder, "onnxruntime_peer.mjs")],
};

const torch: Program = {
  command: () => {
    const path = pythonWithTorch();
    return path === undefined
      ? "install PyTorch for python3 (Debian: python3-torch) or set PYTHON to a Python that has it"
      : [path, join(programsFolder, "torch_peer.py")];
  },
};

/** onnxruntime 1.30's QMoE ignores `normalize_routing_weights: 0`. */
const alwaysNormalizes = ({ normalize }: MoeLayerConfig) =>
  normalize ? undefined : "it always divides the weights of a token's experts by their sum";

/** oneDNN packs bfloat16 for these instruction sets alone. */
const packsNoBf16 = (_config: MoeLayerConfig, format: PeerFormat) => {
  const missing = missingFlags(["avx512bw", "avx512vl", "avx512dq"]);
  return format === "bf16" && missing.length > 0 ? `its bf16 needs ${missing.join(", ")}` : undefined;
};

const grouped = ["i8_g128_f32", "i4_g32_f32"] as const;
const groupedInt8 = ["i8_g128_f32:int8", "i4_g32_f32:int8"] as const;

export const peers: readonly Peer[] = [
  { name: "onnxruntime-moe", variant: "moe", formats: ["f32"], ...onnxruntime },
  { name: "onnxruntime-plain", variant: "plain", formats: ["f32"], ...onnxruntime },
  { name: "onnxruntime-qmoe", variant: "qmoe", formats: grouped, lacks: alwaysNormalizes, ...onnxruntime },
  { name: "onnxruntime-nbits", variant: "nbits", formats: grouped, ...onnxruntime },
  { name: "onnxruntime-nbits-int8", variant: "nbits-int8", formats: groupedInt8, ...onnxruntime },
  { name: "torch-loop", variant: "loop", formats: ["f32", "bf16"], trains: true, ...torch },
  { name: "torch-prepacked", variant: "prepacked", formats: ["f32", "bf16"], lacks: packsNoBf16, ...torch },
  { name: "onednn-loop", variant: "loop", formats: ["bf16", "i8_channel_f32:int8"], command: () => onednnCommand() },
  { name: "llama-cpp", variant: "graph", formats: ["f32", "bf16", ...ggufFormats], command: () => llamaCppCommand() },
];

/** Cached, because importing PyTorch takes seconds. */
let python: { readonly path: string | undefined } | undefined;

function pythonWithTorch(): string | undefined {
  const candidates = [process.env.PYTHON, "python3", "/usr/bin/python3"].filter((path) => path !== undefined);
  python ??= { path: candidates.find((path) => spawnSync(path, ["-c", "import torch"]).status === 0) };
  return python.path;
}
