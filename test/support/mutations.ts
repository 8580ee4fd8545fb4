import { Draw } from "../fuzz/draw.js";

/** Numbers that are wrong in most places. */
const numbers = [
  0n,
  1n,
  2n,
  7n,
  31n,
  32n,
  255n,
  2n ** 16n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** A binary file with one to three places damaged: a bit, a number of four or eight bytes, a stretch, or the end. */
export function mutated(bytes: Uint8Array, seed: number | string): Buffer {
  const draw = new Draw(String(seed));
  let file: Buffer = Buffer.from(bytes);
  for (let left = draw.integer(1, 3); left > 0 && file.length > 8; left--) file = damagedOnce(file, draw);
  return file;
}

function damagedOnce(file: Buffer, draw: Draw): Buffer {
  const at = draw.integer(0, file.length - 8);
  const number = Buffer.alloc(8);
  switch (draw.integer(0, 6)) {
    case 0:
      file[at] = (file[at] as number) ^ (1 << draw.integer(0, 7));
      return file;
    case 1:
      file[at] = draw.integer(0, 255);
      return file;
    case 2:
      file.writeBigUInt64LE(draw.pick(numbers), at);
      return file;
    case 3:
      file.writeUInt32LE(Number(BigInt.asUintN(32, draw.pick(numbers))), at);
      return file;
    case 4:
      return file.subarray(0, at);
    case 5:
      number.writeBigUInt64LE(draw.pick(numbers));
      return Buffer.concat([file.subarray(0, at), number.subarray(0, draw.integer(1, 8)), file.subarray(at)]);
    default:
      return Buffer.concat([file.subarray(0, at), file.subarray(at + draw.integer(1, 16))]);
  }
}
