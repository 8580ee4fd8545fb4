import { lastLevelCacheBytes, leastBeyondCaches } from "#lib/bench/machine.js";
import { memoryShare } from "#lib/bench/options.js";
import { ggufTypes } from "#lib/checkpoint/gguf/types.js";
import { bitsPerWeight, weightFormat } from "#lib/core/formats/weight_formats.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { formatBytes } from "#lib/terminal/format.js";
import { type PeerFormat, partsOf } from "./formats.js";
import { ggufTypeOf } from "./matrices.js";

/** The copies of a layer over which every contender rotates, as a model does over its layers. */
export interface Rotation {
  /** Odd, so that with a power of two of inputs every input meets every copy. */
  readonly copies: number;
  /** Bytes of one contender's copies. */
  readonly bytes: number;
  /** What these should be at least, so that no call finds its weights in a cache: twice the last-level cache. */
  readonly wanted: number;
}

/** More copies of small layers would take long to make. Odd. */
const mostCopies = 33;

/** As many copies as are wanted, if all contenders' copies fit in memory. */
export function planRotation(
  { hiddenSize, intermediateSize, numExperts }: MoeLayerConfig,
  format: PeerFormat,
  contenders: number,
  { cacheBytes = lastLevelCacheBytes(), availableBytes = process.availableMemory() } = {},
): Rotation {
  const { weights: name } = partsOf(format);
  // Some blocks have fewer bits than what we make of them.
  const type = ggufTypeOf(name);
  const blockBits = type === undefined ? Infinity : (8 * ggufTypes[type].bytes) / ggufTypes[type].elements;
  const weights = (rows: number, columns: number): number =>
    (rows * columns * Math.min(bitsPerWeight(weightFormat(name), columns), blockBits)) / 8;
  const layer = numExperts * (2 * weights(intermediateSize, hiddenSize) + weights(hiddenSize, intermediateSize));
  const wanted = cacheBytes === undefined ? leastBeyondCaches : 2 * cacheBytes;
  const sufficient = Math.ceil(wanted / layer);
  const affordable = Math.floor((memoryShare * availableBytes) / (contenders * layer));
  const odd = sufficient % 2 === 1 ? sufficient : sufficient + 1;
  const copies = Math.max(1, Math.min(mostCopies, odd, affordable % 2 === 1 ? affordable : affordable - 1));
  return { copies, bytes: copies * layer, wanted };
}

export function rotationText({ copies, bytes, wanted }: Rotation): string {
  const size = `calls rotate over ${copies} ${copies === 1 ? "copy" : "copies"} of the layer, ${formatBytes(bytes)}`;
  if (bytes >= wanted) return `${size}, more than caches keep`;
  const reason = copies === mostCopies ? "as more are not made" : "as memory holds no more";
  return `${size}, ${reason}; below ${formatBytes(wanted)} weights may come from a cache`;
}
