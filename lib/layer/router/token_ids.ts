import { cannotCombine, checkInteger, invalidArgument, requires, unexpected } from "../../core/errors.js";
import { isArray, typedArray } from "../../core/input/foreign.js";
import { integer, list, type Reader } from "../../core/input/options.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import { Tensor } from "../../core/tensors/tensor.js";
import { checkTensor } from "../../operators/check.js";
import type { DeviceLayer } from "../device_layer.js";

/** The ids of tokens in the vocabulary: in a tensor of the layer's device, or in the host's memory. */
export type TokenIds = Tensor<"i32"> | readonly number[] | Int32Array;

const expected = "an i32 Tensor, a list or an Int32Array of token ids";

/** Reads token ids; those in the host's memory are copied. */
export const tokenIdsOption: Reader<Tensor<"i32"> | Int32Array> = (value, name) => {
  if (value instanceof Tensor) return value as Tensor<"i32">;
  if (ArrayBuffer.isView(value)) return typedArray(name, value, ["Int32Array"], expected).slice();
  if (!isArray(value)) throw invalidArgument(name, expected, value);
  return Int32Array.from(list(integer(-1, 2 ** 31 - 1))(value, name));
};

/**
 * The ids of the tokens of a call in a tensor [T] of its own handle, to be disposed of; undefined if they are not used.
 * @param shape of the tokens, [T, H] or [B, S, H].
 * @param chosenBy the option that has the choice of experts instead, if one does.
 */
export function tokenIdsOnDevice(
  { description, device }: DeviceLayer,
  given: Tensor<"i32"> | Int32Array | undefined,
  shape: Shape,
  chosenBy: "routing" | "expertIds" | undefined,
): Tensor<"i32"> | undefined {
  const { hashRouting } = description;
  if (given === undefined) {
    if (hashRouting === undefined || chosenBy !== undefined) return undefined;
    throw invalidArgument("tokenIds", "the ids of the tokens, by which this layer chooses experts", given);
  }
  if (hashRouting === undefined) throw requires("tokenIds", "a layer with hashRouting");
  if (chosenBy !== undefined) throw cannotCombine("tokenIds", chosenBy);
  const size = shape.slice(0, -1);
  const count = shapeSize(size);
  if (given instanceof Tensor) {
    checkTensor("tokenIds", given, ["i32"], size, device);
    return given.reshape([count]);
  }
  if (given.length !== count) throw unexpected("tokenIds", `${count} ids, one for each token`, `${given.length}`);
  const last = hashRouting.vocabularySize - 1;
  const wrong = given.findIndex((id) => id < -1 || id > last);
  if (wrong >= 0) checkInteger(`tokenIds[${wrong}]`, given[wrong], -1, last);
  return device.tensor(given, [count]);
}
