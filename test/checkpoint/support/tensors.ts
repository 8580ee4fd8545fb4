import fc from "fast-check";
import { safetensorsByteLength, safetensorsDTypeNames, viewAs } from "../../../lib/checkpoint/safetensors/dtype.js";
import { isWellFormed } from "../../../lib/checkpoint/safetensors/header.js";
import type { SafetensorsDType, SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";

const anyText = fc.string({ unit: "binary", maxLength: 12 }).filter(isWellFormed);

export const anyMetadata = fc.dictionary(anyText, anyText, { maxKeys: 4 });

const anyTensor: fc.Arbitrary<SafetensorsInput> = fc
  .record({
    dtype: fc.constantFrom<SafetensorsDType>(...safetensorsDTypeNames),
    shape: fc.array(fc.nat(5), { maxLength: 4 }),
  })
  .filter(({ dtype, shape }) => safetensorsByteLength(dtype, shape) !== undefined)
  .chain(({ dtype, shape }) => {
    const byteLength = safetensorsByteLength(dtype, shape) as number;
    return fc
      .uint8Array({ minLength: byteLength, maxLength: byteLength })
      .map((bytes) => ({ dtype, shape, data: viewAs(dtype, bytes) }));
  });

/** Up to six tensors of any dtype, shape, bits and name. */
export const anyTensors: fc.Arbitrary<Map<string, SafetensorsInput>> = fc
  .uniqueArray(
    fc.tuple(
      anyText.filter((name) => name !== "__metadata__"),
      anyTensor,
    ),
    {
      maxLength: 6,
      selector: ([name]) => name,
    },
  )
  .map((entries) => new Map(entries));

/** The bytes of an array's elements, to compare bit for bit. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
