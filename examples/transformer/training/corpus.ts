import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { type Device, random } from "moe-kernels";
import type { Batch } from "./trainer.js";

/** The text that the repository ships. */
export const shippedText = new URL("../../../../examples/transformer/text/king_james_bible.txt.br", import.meta.url);

/** One block in this many is for validation. */
const validationEvery = 20;
const blockBytes = 8192;

/** The bytes of a text, apart for training and for validation. */
export class Corpus {
  readonly training: Uint8Array;
  readonly validation: Uint8Array;

  constructor(text: Uint8Array) {
    const parts: { training: Uint8Array[]; validation: Uint8Array[] } = { training: [], validation: [] };
    for (let block = 0; block * blockBytes < text.length; block++) {
      const bytes = text.subarray(block * blockBytes, (block + 1) * blockBytes);
      parts[block % validationEvery === validationEvery - 1 ? "validation" : "training"].push(bytes);
    }
    this.training = Buffer.concat(parts.training);
    this.validation = Buffer.concat(parts.validation);
  }

  /** Reads a text, which is compressed with Brotli if its name ends with `.br`. */
  static async read(path: string | URL): Promise<Corpus> {
    const bytes = await readFile(path);
    return new Corpus(String(path).endsWith(".br") ? await promisify(brotliDecompress)(bytes) : bytes);
  }

  /** Sequences from random places, the same for a seed and a step; every byte's target is the next. */
  draw(device: Device, seed: number, step: number, sequences: number, length: number): Batch {
    using places = random(device, [sequences], { seed, distribution: "uniform", offset: step * sequences });
    const last = this.training.length - length - 1;
    if (last < 0)
      throw new RangeError(`text: expected at least ${length + 1} bytes for training, got ${last + length + 1}`);
    const starts = Array.from(places.dataSync(), (share) => Math.floor(share * (last + 1)));
    return batchAt(this.training, starts, length);
  }

  /** Sequences at even distances over the text for validation, in 4 batches of 16. */
  validationBatches(length: number): Batch[] {
    const [batches, sequences] = [4, 16];
    const last = this.validation.length - length - 1;
    if (last < 0) throw new RangeError(`text: expected at least ${20 * blockBytes} bytes, for validation too`);
    const startOf = (index: number) => Math.floor((index / (batches * sequences)) * (last + 1));
    return Array.from({ length: batches }, (_, batch) => {
      const starts = Array.from({ length: sequences }, (_, sequence) => startOf(batch * sequences + sequence));
      return batchAt(this.validation, starts, length);
    });
  }
}

function batchAt(text: Uint8Array, starts: readonly number[], length: number): Batch {
  const ids = new Int32Array(starts.length * length);
  const targets = new Int32Array(starts.length * length);
  starts.forEach((start, sequence) => {
    ids.set(text.subarray(start, start + length), sequence * length);
    targets.set(text.subarray(start + 1, start + length + 1), sequence * length);
  });
  return { ids, targets, sequences: starts.length };
}
