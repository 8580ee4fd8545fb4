import type { LayerSource } from "../locate/locate_layer.js";
import { tensorLocator } from "../locate/locate_tensors.js";
import type { TensorSource } from "../locate/tensor_source.js";
import type { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";
import { hasInputTensor, hasMatrix } from "../schemes/stored_matrix.js";

/** What files have of a layer. */
export interface LayerFiles extends Pick<LayerSource, "locate" | "hasInputTensor"> {
  /** Whether they have the weight, whatever it is stored as. */
  has(name: string): boolean;
  /** The dtype and the bytes of the tensor of this name, if there is one. */
  find(name: string): Promise<{ readonly dtype: string; readonly byteLength: number } | undefined>;
}

/** The weights of a model directory. */
export function shardedFiles(checkpoint: ShardedCheckpoint, layer: Omit<TensorSource, "has" | "fileOf">): LayerFiles {
  const has = (name: string) => checkpoint.has(name);
  const fileOf = (name: string) => checkpoint.fileOf(name);
  return {
    locate: tensorLocator({ ...layer, has, fileOf }),
    hasInputTensor: (name) => hasInputTensor(has, name),
    has: (name) => hasMatrix(has, name),
    find: async (name) => (has(name) ? (await fileOf(name)).info(name) : undefined),
  };
}
