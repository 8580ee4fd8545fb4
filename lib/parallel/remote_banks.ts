import { inspect } from "node:util";
import { checkMadeBy } from "../core/device/own_class.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { checkInteger, MoeError, unexpected } from "../core/errors.js";
import { type Fields, number, object, optional } from "../core/input/options.js";
import { address, addressText, type Place } from "./address.js";
import type { BankFacts } from "./bank_facts.js";
import { Connection } from "./connection.js";
import { messageFor, type RoutedTokens } from "./dispatch.js";
import type { Hello } from "./hello.js";
import { giveMemory } from "./memory.js";
import type { TokensMessage } from "./messages.js";

/** Options of {@link connectBanks}. */
export interface ConnectOptions {
  /**
   * Seconds without a byte from the server, while an answer is awaited, after which it counts as gone; default 300. If the
   * server's process ends, this is noticed at once.
   */
  timeout?: number | undefined;
}

const connectOptions = object(
  {
    timeout: optional(
      number((value) => value > 0 && value <= 2 ** 20, "seconds > 0"),
      300,
    ),
  } satisfies Fields<ConnectOptions>,
  "{ timeout: 60 }",
);

/** What went over the connections to a server. */
export interface Traffic {
  /** Requests, of which a forward of few tokens makes one. */
  readonly requests: number;
  /** Tokens in them. */
  readonly tokens: number;
  /** Bytes of tokens and their routing. */
  readonly bytesSent: number;
  /** Bytes of their shares. */
  readonly bytesReceived: number;
}

/** The banks that a server has, made by {@link connectBanks}. */
export class RemoteBanks extends ThreadBound implements Disposable {
  readonly #place: Place;
  readonly #timeout: number;
  readonly #hello: Hello;
  #connection: Promise<Connection>;
  #closed = false;
  #traffic: Traffic = { requests: 0, tokens: 0, bytesSent: 0, bytesReceived: 0 };

  /** @internal Use {@link connectBanks}. */
  constructor(place: Place, timeout: number, connection: Connection) {
    super();
    checkMadeBy("connectBanks(address)", RemoteBanks, connection instanceof Connection);
    this.#place = place;
    this.#timeout = timeout;
    this.#hello = connection.hello;
    this.#connection = Promise.resolve(connection);
  }

  /** Where the server listens. */
  get address(): string {
    return addressText(this.#place);
  }

  /** The numbers of its layers. */
  get layers(): readonly number[] {
    return this.#hello.layers.map(({ layer }) => layer);
  }

  /** What went over the connections so far. */
  get traffic(): Traffic {
    return { ...this.#traffic };
  }

  /**
   * The bank of a layer. Default: that of the only layer.
   * @throws INVALID_ARGUMENT if the server does not have it, or has several and none is named.
   */
  bank(layer?: number): RemoteBank {
    const { layers } = this.#hello;
    if (layer === undefined && layers.length !== 1) {
      throw unexpected("layer", `one of ${this.layers.join(", ")}`, "none");
    }
    if (layer !== undefined) checkInteger("layer", layer, 0);
    const found = layers.find((each) => each.layer === (layer ?? layers[0]?.layer));
    if (found === undefined) throw unexpected("layer", `one of ${this.layers.join(", ")}`, `${layer}`);
    return new RemoteBank(this, found.layer, found.facts);
  }

  /** @internal The most tokens of a request. */
  get maxTokens(): number {
    return this.#hello.maxTokens;
  }

  /**
   * @internal Sends tokens, gives back their memory, and resolves to the bytes of their share. Connects again if the connection
   * has ended.
   */
  async request({ body, tokens, count }: TokensMessage, signal: AbortSignal | undefined): Promise<Buffer> {
    const connection = await this.#connected();
    const share = await connection.request(body, tokens.byteLength, signal);
    giveMemory(body);
    const { requests, tokens: before, bytesSent, bytesReceived } = this.#traffic;
    this.#traffic = {
      requests: requests + 1,
      tokens: before + count,
      bytesSent: bytesSent + body.length,
      bytesReceived: bytesReceived + share.length,
    };
    return share;
  }

  async #connected(): Promise<Connection> {
    if (this.#closed) throw new MoeError("DISPOSED", `${this.address}: used after close()`);
    const before = this.#connection;
    const connection = await before.catch(() => undefined);
    if (connection !== undefined && !connection.closed) return connection;
    // Of several requests that find it closed, the first connects.
    if (this.#connection === before) this.#connection = this.#reconnect();
    return await this.#connection;
  }

  async #reconnect(): Promise<Connection> {
    const connection = await Connection.open(this.#place, this.#timeout);
    const served = ({ layers, maxTokens }: Hello) =>
      JSON.stringify([maxTokens, layers.map(({ layer, facts: { probe, ...others } }) => [layer, others])]);
    if (!this.#closed && served(connection.hello) === served(this.#hello)) return connection;
    connection.close();
    const why = this.#closed ? "it was closed here" : "serves other layers than before; connect again";
    throw new MoeError("CONNECTION_FAILED", `${this.address}: ${why}`);
  }

  /** Ends the connection; forwards that wait for it reject. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#connection.then(
      (connection) => connection.close(),
      () => {},
    );
  }

  /** As {@link close}, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `RemoteBanks ${this.address}, layers ${this.layers.join(", ")}${this.#closed ? " (closed)" : ""}`;
  }
}

/** A bank of a layer that another process holds, made by {@link RemoteBanks.bank}. */
export class RemoteBank extends ThreadBound {
  readonly #banks: RemoteBanks;
  readonly #layer: number;
  readonly #facts: BankFacts;

  /** @internal Use {@link RemoteBanks.bank}. */
  constructor(banks: RemoteBanks, layer: number, facts: BankFacts) {
    super();
    checkMadeBy("banks.bank(layer)", RemoteBank, banks instanceof RemoteBanks);
    this.#banks = banks;
    this.#layer = layer;
    this.#facts = facts;
  }

  /** Where its server listens. */
  get address(): string {
    return this.#banks.address;
  }

  /** The number of its layer. */
  get layer(): number {
    return this.#layer;
  }

  /** The lowest of its experts. */
  get first(): number {
    return this.#facts.first;
  }

  /** How many experts it has. */
  get count(): number {
    return this.#facts.count;
  }

  /** @internal */
  get facts(): BankFacts {
    return this.#facts;
  }

  /** @internal The most tokens of a request. */
  get maxTokens(): number {
    return this.#banks.maxTokens;
  }

  /** @internal The bytes of the share of some of these tokens. */
  async share(routed: RoutedTokens, rows: readonly number[], signal: AbortSignal | undefined): Promise<Buffer> {
    return await this.#banks.request(messageFor(this.#facts, this.#layer, routed, rows), signal);
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `RemoteBank of layer ${this.layer}, experts ${this.first} to ${this.first + this.count - 1}, at ${this.address}`;
  }
}

/**
 * Connects to a server of banks, see {@link serveBanks}. If the connection ends later, the forwards that wait for it reject, and
 * the next one connects again. An idle connection does not keep the process alive.
 * @param at the server's address: HOST:PORT, [IPV6]:PORT, or the path of a socket with a slash in it.
 * @throws CONNECTION_FAILED if nothing answers there, or something else than such a server; INVALID_ARGUMENT.
 */
export async function connectBanks(at: string, options: ConnectOptions = {}): Promise<RemoteBanks> {
  const place = address(at, "address");
  const { timeout } = connectOptions(options, "options");
  const connection = await Connection.open(place, 1000 * timeout);
  return new RemoteBanks(place, 1000 * timeout, connection);
}
