import type { Socket } from "node:net";
import { takeMemory } from "./memory.js";

// What goes over a connection is a sequence of frames: a head of three little-endian u32 (kind, request, bytes of the body)
// and the body. A server begins with one `hello`; then a client sends `tokens`, and gets a `share` or a `failure` for each.

const kinds = ["hello", "tokens", "share", "failure"] as const;
export type FrameKind = (typeof kinds)[number];

const headBytes = 12;

export interface Frame {
  readonly kind: FrameKind;
  /** The number that the client gave the request; 0 for what belongs to none. */
  readonly request: number;
  /** From a multiple of 8 bytes on; for whoever has used it to give back, see {@link giveMemory}. */
  readonly body: Buffer;
}

/** Sends a frame. */
export function sendFrame(socket: Socket, kind: FrameKind, request: number, body: Uint8Array, sent?: () => void): void {
  const head = Buffer.alloc(headBytes);
  [kinds.indexOf(kind), request, body.length].forEach((value, index) => {
    head.writeUInt32LE(value, 4 * index);
  });
  socket.cork();
  socket.write(head);
  socket.write(body, sent);
  socket.uncork();
}

/** Sends a frame whose body is JSON. */
export function sendJson(socket: Socket, kind: FrameKind, request: number, value: unknown, sent?: () => void): void {
  sendFrame(socket, kind, request, Buffer.from(JSON.stringify(value)), sent);
}

/** Puts the frames of a stream together again. */
export class FrameReader {
  readonly #longest: (kind: FrameKind, request: number) => number;
  readonly #head = Buffer.alloc(headBytes);
  #headFilled = 0;
  #frame: Frame | undefined;
  #filled = 0;

  /** @param longest the most bytes that a body of this kind may have; -1 if such a frame is not expected at all. */
  constructor(longest: (kind: FrameKind, request: number) => number) {
    this.#longest = longest;
  }

  /** The frames that `chunk` completes. Throws an Error that says what is wrong with a frame. */
  *frames(chunk: Uint8Array): Generator<Frame> {
    for (let at = 0; at < chunk.length || this.#complete; ) {
      if (this.#frame === undefined) {
        const taken = chunk.subarray(at, at + headBytes - this.#headFilled);
        this.#head.set(taken, this.#headFilled);
        this.#headFilled += taken.length;
        at += taken.length;
        if (this.#headFilled === headBytes) this.#begin();
      } else if (this.#complete) {
        const frame = this.#frame;
        this.#frame = undefined;
        this.#headFilled = 0;
        yield frame;
      } else {
        const taken = chunk.subarray(at, at + this.#frame.body.length - this.#filled);
        this.#frame.body.set(taken, this.#filled);
        this.#filled += taken.length;
        at += taken.length;
      }
    }
  }

  get #complete(): boolean {
    return this.#frame?.body.length === this.#filled;
  }

  #begin(): void {
    const [number, request, bytes] = [0, 4, 8].map((offset) => this.#head.readUInt32LE(offset)) as [
      number,
      number,
      number,
    ];
    const kind = kinds[number];
    if (kind === undefined)
      throw new Error(`expected a frame, got bytes that begin with ${this.#head.toString("hex")}`);
    const longest = this.#longest(kind, request);
    if (longest < 0) throw new Error(`expected no frame of kind ${kind} now`);
    if (bytes > longest) throw new Error(`${kind}: expected at most ${longest} bytes, got ${bytes}`);
    this.#filled = 0;
    this.#frame = { kind, request, body: takeMemory(bytes) };
  }
}
