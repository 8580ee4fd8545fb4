import { connect, type Socket } from "node:net";
import { reasonOf } from "../core/device/cancellation.js";
import { MoeError, type MoeErrorCode, messageOf } from "../core/errors.js";
import { results, text } from "../core/input/options.js";
import { addressText, type Place } from "./address.js";
import { type Frame, FrameReader, sendFrame } from "./frames.js";
import { type Hello, longestHello, readHello } from "./hello.js";

/** A request without an answer yet. */
interface Pending {
  /** Bytes of the share that it gets. */
  readonly bytes: number;
  resolve(share: Buffer): void;
  reject(error: unknown): void;
}

/** Why a request failed. */
const readFailure = results({ code: text, message: text });
/** Bytes of the longest of these. */
const longestFailure = 2 ** 16;

/** Bytes that are read from a socket at a time. */
const chunkBytes = 2 ** 18;

/** A client's end of one connection. It does not keep the process alive while no answer is awaited. */
export class Connection {
  readonly #socket: Socket;
  readonly #place: Place;
  readonly #timeout: number;
  readonly #pending = new Map<number, Pending>();
  #hello: Hello | undefined;
  #opened: Pending | undefined;
  #requests = 0;
  #closed = false;

  /** @param timeout milliseconds without a byte from the server, while an answer is awaited, until it counts as gone. */
  private constructor(place: Place, timeout: number) {
    this.#place = place;
    this.#timeout = timeout;
    const reader = new FrameReader((kind, request) => this.#longest(kind, request));
    const take = (chunk: Uint8Array): boolean => {
      try {
        for (const frame of reader.frames(chunk)) this.#take(frame);
      } catch (error) {
        this.#fail(messageOf(error), error);
      }
      return true;
    };
    // One buffer for all that comes, instead of one for each chunk.
    const buffer = Buffer.alloc(chunkBytes);
    const socket = connect({ ...place, onread: { buffer, callback: (bytes) => take(buffer.subarray(0, bytes)) } });
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    socket.on("error", (cause) => this.#fail(messageOf(cause), cause));
    socket.on("close", () => this.#fail("the server has closed the connection"));
    socket.on("timeout", () => this.#fail(`no answer within ${timeout / 1000} s`));
  }

  /** Connects and waits for the server's first words. */
  static async open(place: Place, timeout: number): Promise<Connection> {
    const connection = new Connection(place, timeout);
    await new Promise<void>((resolve, reject) => {
      connection.#opened = { bytes: 0, resolve: () => resolve(), reject };
      connection.#await();
    });
    return connection;
  }

  get hello(): Hello {
    return this.#hello as Hello;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Sends tokens, and resolves to the bytes of their share.
   * @param signal stops the waiting; the server computes the share all the same.
   */
  async request(body: Uint8Array, bytes: number, signal: AbortSignal | undefined): Promise<Buffer> {
    signal?.throwIfAborted();
    const number = this.#nextNumber();
    let aborted: (() => void) | undefined;
    try {
      return await new Promise<Buffer>((resolve, reject) => {
        if (this.#closed) throw this.#lost("the server has closed the connection");
        this.#pending.set(number, { bytes, resolve, reject });
        if (signal !== undefined) {
          // The answer is still to come, and then ignored.
          aborted = () => reject(reasonOf(signal));
          signal.addEventListener("abort", aborted, { once: true });
        }
        sendFrame(this.#socket, "tokens", number, body);
        this.#await();
      });
    } finally {
      if (aborted !== undefined) signal?.removeEventListener("abort", aborted);
    }
  }

  /** Ends the connection; requests that wait reject. Idempotent. */
  close(): void {
    this.#fail("it was closed here");
  }

  #nextNumber(): number {
    do this.#requests = (this.#requests % (2 ** 32 - 1)) + 1;
    while (this.#pending.has(this.#requests));
    return this.#requests;
  }

  #longest(kind: Frame["kind"], request: number): number {
    if (this.#hello === undefined) return kind === "hello" ? longestHello : kind === "failure" ? longestFailure : -1;
    if (kind === "failure") return longestFailure;
    return kind === "share" ? (this.#pending.get(request)?.bytes ?? -1) : -1;
  }

  #take({ kind, request, body }: Frame): void {
    if (kind === "hello") {
      this.#hello = readHello(body);
      this.#opened?.resolve(body);
      this.#opened = undefined;
    } else if (kind === "failure") {
      const { code, message } = readFailure(JSON.parse(body.toString("utf8")), "failure");
      const pending = this.#pending.get(request);
      if (pending === undefined) throw new Error(message);
      this.#pending.delete(request);
      pending.reject(new MoeError(code as MoeErrorCode, `${addressText(this.#place)}: ${message}`));
    } else {
      const pending = this.#pending.get(request) as Pending;
      if (body.length !== pending.bytes) throw new Error(`share: expected ${pending.bytes} bytes, got ${body.length}`);
      this.#pending.delete(request);
      pending.resolve(body);
    }
    this.#await();
  }

  /** Keeps the process alive, and watches the server, exactly while an answer is awaited. */
  #await(): void {
    const waits = this.#opened !== undefined || this.#pending.size > 0;
    this.#socket.setTimeout(waits ? this.#timeout : 0);
    if (waits) this.#socket.ref();
    else this.#socket.unref();
  }

  #fail(why: string, cause?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    const waiting = [...(this.#opened ? [this.#opened] : []), ...this.#pending.values()];
    this.#opened = undefined;
    this.#pending.clear();
    for (const { reject } of waiting) reject(this.#lost(why, cause));
  }

  #lost(why: string, cause?: unknown): MoeError {
    return new MoeError(
      "CONNECTION_FAILED",
      `${addressText(this.#place)}: ${why}`,
      cause === undefined ? {} : { cause },
    );
  }
}
