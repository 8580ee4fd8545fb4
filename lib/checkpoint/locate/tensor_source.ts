import type { SafetensorsFile } from "../safetensors/file.js";
import type { Quantization } from "../schemes/quantization.js";
import type { LayerTensors } from "./locate_layer.js";

/** Safetensors files in which a layer's weights are looked up. */
export interface TensorSource {
  /** What the expected shapes are from, for errors. */
  readonly origin: string;
  readonly quantization: Quantization;
  /** The names of the layer's tensors; none for weights outside of layers. */
  readonly tensors?: LayerTensors | undefined;
  /** Whether a caller gave them, who may leave out parts of the layer. */
  readonly isGiven?: boolean | undefined;
  has(name: string): boolean;
  /** The opened file that holds the tensor; BAD_CHECKPOINT if there is none. */
  fileOf(name: string): Promise<SafetensorsFile>;
}
