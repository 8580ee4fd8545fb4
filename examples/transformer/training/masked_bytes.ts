import { type Device, random } from "moe-kernels";
import { ignored } from "../model/loss.js";
import type { Batch } from "./trainer.js";

/** The id that hides a byte. */
export const maskId = 256;
const maskedShare = 0.15;

/**
 * Hides some tokens of a batch, which are then to be predicted from both sides (BERT, arXiv 1810.04805): of those chosen, four
 * fifths become the mask, a tenth another byte, and a tenth stays.
 */
export function maskBytes({ ids, sequences }: Batch, device: Device, seed: number, step: number): Batch {
  using uniform = random(device, [ids.length, 3], { seed, distribution: "uniform", offset: 3 * ids.length * step });
  const numbers = uniform.dataSync();
  const hidden = ids.slice();
  const targets = new Int32Array(ids.length).fill(ignored);
  for (let token = 0; token < ids.length; token++) {
    const [chosen, how, other] = numbers.subarray(3 * token, 3 * token + 3);
    if (chosen >= maskedShare) continue;
    targets[token] = ids[token];
    if (how < 0.8) hidden[token] = maskId;
    else if (how < 0.9) hidden[token] = Math.floor(256 * other);
  }
  return { ids: hidden, targets, sequences };
}
