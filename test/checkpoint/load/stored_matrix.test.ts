import { expect, test } from "vitest";
import type { TensorFile } from "../../../lib/checkpoint/locate/located_weight.js";
import { schemes } from "../../../lib/checkpoint/schemes/list.js";
import { Quantization } from "../../../lib/checkpoint/schemes/quantization.js";
import { type FoundTensor, StoredMatrix } from "../../../lib/checkpoint/schemes/stored_matrix.js";
import { checkParts } from "../../../lib/checkpoint/schemes/torchao.js";

test("metadata of a matrix are parsed once, however many schemes ask", async () => {
  const file: TensorFile = { path: "model.safetensors", readRange: async () => undefined };
  const tensor = (part: string, dtype: "I8" | "F32", shape: number[]): FoundTensor => ({
    name: `_weight_${part}`,
    file,
    info: { dtype, shape, byteOffset: 0, byteLength: 0 },
  });
  const text = JSON.stringify({
    _type: "IntxUnpackedToInt8Tensor",
    _data: { target_dtype: { _type: "torch.dtype", _data: "int4" } },
    _tensor_data_names: ["qdata", "scale", "zero_point"],
  });
  let reads = 0;
  const matrix = new StoredMatrix({
    name: "weight",
    shape: [2, 64],
    piece: [2, 64],
    layout: {},
    index: 0,
    count: 1,
    origin: "config.json",
    quantization: new Quantization(),
    tensors: new Map([
      ["weight", tensor("qdata", "I8", [2, 64])],
      ["weight_scale", tensor("scale", "F32", [2, 2])],
      ["weight_zero_point", tensor("zero_point", "I8", [2, 2])],
    ]),
    get description() {
      reads++;
      return text;
    },
  });
  checkParts(matrix);
  const located = await schemes.find((scheme) => scheme.takes(matrix))?.locate(matrix);
  expect(located?.format).toBe("u4_g32_f32");
  expect(reads).toBe(1);
});
