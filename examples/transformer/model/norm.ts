import type { Tensor } from "moe-kernels";
import type { Host } from "./host.js";
import { Weight, type WeightSource } from "./weights.js";

const epsilon = 1e-5;

/** The result, and what the backward pass needs: the normalised rows, and what each was multiplied by. */
interface Normalised {
  readonly y: Float32Array;
  readonly normalised: Float32Array;
  readonly factors: Float32Array;
}

/** Each of one row's length; with a shift it is a LayerNorm. */
export interface NormWeights {
  readonly gain: Float32Array;
  readonly shift: Float32Array | undefined;
}

/** Normalises the rows of x, into memory of an earlier call if that is as large. */
export function normalise(x: Float32Array, { gain, shift }: NormWeights, memory?: Normalised): Normalised {
  const size = gain.length;
  const fits = memory?.y.length === x.length;
  const result = fits ? memory : emptyResult(x.length, size);
  const { y, normalised, factors } = result;
  for (let row = 0, begin = 0; begin < x.length; row++, begin += size) {
    let mean = 0;
    if (shift) {
      for (let i = 0; i < size; i++) mean += x[begin + i];
      mean /= size;
    }
    let squares = 0;
    for (let i = 0; i < size; i++) {
      const difference = x[begin + i] - mean;
      squares += difference * difference;
    }
    const factor = 1 / Math.sqrt(squares / size + epsilon);
    factors[row] = factor;
    for (let i = 0; i < size; i++) {
      const value = (x[begin + i] - mean) * factor;
      normalised[begin + i] = value;
      y[begin + i] = value * gain[i];
    }
    if (shift) for (let i = 0; i < size; i++) y[begin + i] += shift[i];
  }
  return result;
}

function emptyResult(length: number, size: number): Normalised {
  return {
    y: new Float32Array(length),
    normalised: new Float32Array(length),
    factors: new Float32Array(length / size),
  };
}

/**
 * RMSNorm, y = gain · x / √(mean x² + ε), or LayerNorm, which first takes the mean off x and adds a shift. The residual
 * stream is a typed array, so both passes are loops; on the device, the package has `rmsNorm`, but no LayerNorm.
 */
export class Norm {
  readonly host: Host;
  readonly kind: "rms" | "layer";
  readonly size: number;
  readonly gain: Weight;
  /** Only LayerNorm has one. */
  readonly shift: Weight | undefined;
  /** What the last forward kept. The next one reuses its memory, to leave less garbage. */
  #last: Normalised | undefined;

  constructor(host: Host, source: WeightSource, name: string, kind: "rms" | "layer", size: number) {
    this.host = host;
    this.kind = kind;
    this.size = size;
    this.gain = new Weight(`${name}.gain`, source.take(`${name}.gain`, [size], 0, 1));
    if (kind === "layer") this.shift = new Weight(`${name}.shift`, source.take(`${name}.shift`, [size], 0));
  }

  get weights(): Weight[] {
    return this.shift ? [this.gain, this.shift] : [this.gain];
  }

  /** @param x the residual stream, T rows. @returns y [T, H]. */
  forward(x: Float32Array): Tensor<"f32"> {
    const { host, size } = this;
    const weights = this.read();
    const last = host.compute(() => normalise(x, weights, this.#last));
    this.#last = last;
    return host.tensor(last.y, [x.length / size, size]);
  }

  /** The present weights. */
  read(): NormWeights {
    return { gain: this.host.read(this.gain.value), shift: this.shift && this.host.read(this.shift.value) };
  }

  /** Adds the gradient by x to `dx`. */
  backward(dy: Tensor<"f32">, dx: Float32Array): void {
    if (this.#last === undefined) throw new Error("norm: expected a forward before backward, got none");
    const { host, size, kind } = this;
    const { normalised, factors } = this.#last;
    const gain = host.read(this.gain.value);
    const given = host.read(dy);
    const dGain = new Float32Array(size);
    const dShift = new Float32Array(size);
    host.compute(() => {
      for (let row = 0, begin = 0; begin < given.length; row++, begin += size) {
        // The parts of the gradient that lie along the normalised row, and along ones, change nothing.
        let along = 0;
        let mean = 0;
        for (let i = 0; i < size; i++) {
          const d = given[begin + i];
          const value = normalised[begin + i];
          const scaled = d * gain[i];
          dGain[i] += d * value;
          dShift[i] += d;
          along += scaled * value;
          mean += scaled;
        }
        along /= size;
        mean = kind === "layer" ? mean / size : 0;
        const factor = factors[row];
        for (let i = 0; i < size; i++) {
          dx[begin + i] += factor * (given[begin + i] * gain[i] - mean - along * normalised[begin + i]);
        }
      }
    });
    host.write(this.gain.gradient, dGain);
    if (this.shift) host.write(this.shift.gradient, dShift);
  }
}
