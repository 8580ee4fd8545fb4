import { badCheckpoint } from "../bad_checkpoint.js";
import type { Pieces } from "../safetensors/pieces.js";

/** Fills `target` with the file's bytes from `position`. */
type Read = (target: Uint8Array, position: number) => Promise<void>;

/** Bytes that are read at once. */
const windowBytes = 2 ** 20;

/** Largest header: far above any model, whose tokenizer takes about 10 MB. */
const maximumHeaderBytes = 2 ** 27;

/** Values between two pauses. */
const pauseEvery = 1024;

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * A place in the header of a file, and those of its bytes around it that are in memory. The header does not say how long
 * it is, so bytes are read as they are needed.
 */
export class HeaderCursor {
  readonly path: string;
  readonly fileBytes: number;
  /** The bytes that are in memory. */
  view: DataView = new DataView(new ArrayBuffer(0));
  #bytes: Buffer = Buffer.alloc(0);
  /** The first byte in memory, and the next to be read, counted from the beginning of the file. */
  #begin = 0;
  #position = 0;
  #taken = 0;
  readonly #read: Read | undefined;

  /** @param source the whole file, or how to read from it. */
  constructor(path: string, fileBytes: number, source: Uint8Array | Read) {
    this.path = path;
    this.fileBytes = fileBytes;
    if (typeof source === "function") this.#read = source;
    else this.#hold(source);
  }

  get position(): number {
    return this.#position;
  }

  /**
   * Moves over the next `count` bytes; returns their place in {@link view}, which is another one then.
   * @throws BAD_CHECKPOINT at the file's end.
   */
  *take(count: number, place: string): Pieces<number> {
    const end = this.#position + count;
    if (end > this.fileBytes) {
      throw badCheckpoint(
        this.path,
        `${place}: expected ${count} bytes at ${this.#position}, got a file of ${this.fileBytes}`,
      );
    }
    if (end > maximumHeaderBytes) {
      throw badCheckpoint(this.path, `${place}: expected a header of at most ${maximumHeaderBytes} bytes, got more`);
    }
    if (end > this.#begin + this.#bytes.byteLength) yield this.#readOn(count);
    if (++this.#taken % pauseEvery === 0) yield;
    const at = this.#position - this.#begin;
    this.#position = end;
    return at;
  }

  *u32(place: string): Pieces<number> {
    const at = yield* this.take(4, place);
    return this.view.getUint32(at, true);
  }

  *u64(place: string): Pieces<bigint> {
    const at = yield* this.take(8, place);
    return this.view.getBigUint64(at, true);
  }

  /** A u64 that counts things of at least `bytes` bytes each, all of which follow in the header. @throws BAD_CHECKPOINT */
  *count(most: number, bytes: number, place: string): Pieces<number> {
    const count = yield* this.u64(place);
    if (count > most) throw badCheckpoint(this.path, `${place}: expected at most ${most}, got ${count}`);
    const left = this.fileBytes - this.#position;
    if (Number(count) * bytes <= left) return Number(count);
    throw badCheckpoint(
      this.path,
      `${place}: expected at most ${Math.floor(left / bytes)} in the file's last ${left} bytes, got ${count}`,
    );
  }

  /** A copy of bytes in memory. */
  copy(at: number, count: number): ArrayBuffer {
    return Uint8Array.from(this.#bytes.subarray(at, at + count)).buffer;
  }

  text(at: number, count: number): string {
    return this.#bytes.toString("utf8", at, at + count);
  }

  /** Text in UTF-8; undefined if it is not. */
  strictText(at: number, count: number): string | undefined {
    try {
      return strict.decode(this.#bytes.subarray(at, at + count));
    } catch {
      return undefined;
    }
  }

  /** Reads at least the next `count` bytes. */
  async #readOn(count: number): Promise<void> {
    const window = new Uint8Array(Math.min(Math.max(count, windowBytes), this.fileBytes - this.#position));
    await this.#read?.(window, this.#position);
    this.#hold(window);
  }

  /** Replaces the bytes in memory by those that begin at the present position. */
  #hold(bytes: Uint8Array): void {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#begin = this.#position;
  }
}
