import { lstatSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { inspect } from "node:util";
import { checkMadeBy } from "../core/device/own_class.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { invalidArgument, isMoeError, MoeError, messageOf, unexpected } from "../core/errors.js";
import { entriesOfMap } from "../core/input/foreign.js";
import { type Fields, integer, object, optional } from "../core/input/options.js";
import { Made } from "../core/tensors/made.js";
import { MoeLayer } from "../moe_layer.js";
import { address, addressText, type Place } from "./address.js";
import { type BankFacts, bankFacts } from "./bank_facts.js";
import { type Frame, FrameReader, sendFrame, sendJson } from "./frames.js";
import { type Hello, protocol } from "./hello.js";
import { giveMemory, readBits } from "./memory.js";
import { longestTokens, readTokens, type TokensMessage } from "./messages.js";

/** Options of {@link serveBanks}. */
export interface ServeOptions {
  /**
   * Where to listen: HOST:PORT, [IPV6]:PORT, or the path of a socket with a slash in it, for processes of the same machine;
   * port 0 is any free one. Default "127.0.0.1:0".
   */
  address?: string | undefined;
  /** How many tokens a request may have; clients split larger ones, which changes no bit. Default 4096. */
  maxTokens?: number | undefined;
  /** How many requests of a connection are computed or wait at a time, before the next are left unread; default 16. */
  maxRequests?: number | undefined;
}

const serveOptions = object(
  {
    address: optional(address, { host: "127.0.0.1", port: 0 } as Place),
    maxTokens: optional(integer(1, 2 ** 20), 4096),
    maxRequests: optional(integer(1, 2 ** 20), 16),
  } satisfies Fields<ServeOptions>,
  '{ address: "127.0.0.1:7000" }',
);

/** A layer that is served, and what clients are told of it. */
interface ServedBank {
  readonly layer: MoeLayer;
  readonly facts: BankFacts;
}

/** What all connections of a server have in common. */
interface Service {
  readonly banks: ReadonlyMap<number, ServedBank>;
  readonly maxTokens: number;
  readonly maxRequests: number;
  /** Bytes of the longest request. */
  readonly longest: number;
  /** The server's first words. */
  readonly hello: Uint8Array;
}

function serviceOf(
  banks: ReadonlyMap<number, ServedBank>,
  { maxTokens, maxRequests }: Pick<Service, "maxTokens" | "maxRequests">,
): Service {
  const facts = [...banks.values()].map((bank) => bank.facts);
  const longest = Math.max(...facts.map((each) => longestTokens(maxTokens, each.numExperts, each.hiddenSize)));
  const layers = Array.from(banks, ([layer, { facts }]) => ({ layer, facts }));
  const hello: Hello = { maxTokens, layers };
  return { banks, maxTokens, maxRequests, longest, hello: Buffer.from(JSON.stringify({ protocol, ...hello })) };
}

/** Banks that other processes use, made by {@link serveBanks}. */
export class BankServer extends ThreadBound implements AsyncDisposable {
  readonly #server: Server;
  readonly #service: Service;
  readonly #connections = new Set<ServedConnection>();
  #address = "";
  #closed: Promise<void> | undefined;

  /** @internal Use {@link serveBanks}. */
  constructor(service: Service) {
    super();
    checkMadeBy("serveBanks(layers)", BankServer, service?.banks instanceof Map);
    this.#service = service;
    this.#server = createServer((socket) => {
      const connection = new ServedConnection(socket, service, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
  }

  /** @internal Begins to listen. */
  async listen(place: Place): Promise<void> {
    try {
      await listening(this.#server, place);
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      const path = code === "EADDRINUSE" && "path" in place ? place.path : undefined;
      if (path === undefined || !(await isAbandoned(path))) {
        throw new MoeError("CONNECTION_FAILED", `${addressText(place)}: cannot listen: ${message}`, { cause });
      }
      rmSync(path, { force: true });
      await this.listen(place);
      return;
    }
    const server = this.#server;
    // Such as no more file descriptors for a connection: others go on.
    server.on("error", () => {});
    const bound = server.address();
    if (bound === null) throw new MoeError("INTERNAL", "a server without an address");
    this.#address = addressText(
      typeof bound === "string" ? { path: bound } : { host: bound.address, port: bound.port },
    );
  }

  /** Where it listens, as {@link connectBanks} takes it. */
  get address(): string {
    return this.#address;
  }

  /** The numbers of the layers. */
  get layers(): readonly number[] {
    return [...this.#service.banks.keys()];
  }

  /** How many clients are connected. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Takes no more requests, answers those that have come unless a client takes none for a minute, and ends. Idempotent. */
  async close(): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const connection of this.#connections) connection.end();
    await ended;
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const state = this.#closed === undefined ? "" : " (closed)";
    return `BankServer ${this.#address}, layers ${this.layers.join(", ")}, ${this.#service.maxTokens} tokens a request${state}`;
  }
}

async function listening(server: Server, place: Place): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(place, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Whether a path is that of a socket which a process has left that was killed. */
async function isAbandoned(path: string): Promise<boolean> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false;
  return await new Promise<boolean>((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code === "ECONNREFUSED"));
  });
}

/** One client of a server. */
class ServedConnection {
  readonly #socket: Socket;
  readonly #service: Service;
  #pending = 0;
  #ending = false;

  constructor(socket: Socket, service: Service, closed: () => void) {
    this.#socket = socket;
    this.#service = service;
    const reader = new FrameReader((kind) => (kind === "tokens" ? service.longest : -1));
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    socket.on("error", () => {}); // "close" follows
    socket.on("close", closed);
    socket.on("data", (chunk: Buffer) => {
      try {
        for (const frame of reader.frames(chunk)) void this.#answer(frame);
      } catch (error) {
        this.#refuse(0, error);
        socket.destroySoon();
      }
    });
    sendFrame(socket, "hello", 0, service.hello);
  }

  /** Ends once what has come is answered, or if the client takes no answer for a minute. */
  end(): void {
    this.#ending = true;
    this.#socket.pause();
    this.#socket.setTimeout(60_000, () => this.#socket.destroy());
    if (this.#pending === 0) this.#socket.destroySoon();
  }

  async #answer({ request, body }: Frame): Promise<void> {
    const { banks, maxTokens } = this.#service;
    this.#count(1);
    const sent = () => this.#count(-1);
    try {
      const tokens = readTokens(body, (layer) => banks.get(layer)?.facts.hiddenSize);
      const bank = banks.get(tokens.layer) as ServedBank;
      checkRequest(tokens, bank.facts, maxTokens);
      const share = await shareOf(bank.layer, tokens);
      giveMemory(body);
      const bytes = new Uint8Array(share.buffer, share.byteOffset, share.byteLength);
      sendFrame(this.#socket, "share", request, bytes, () => {
        giveMemory(bytes);
        sent();
      });
    } catch (error) {
      this.#refuse(request, error, sent);
    }
  }

  #refuse(request: number, error: unknown, sent?: () => void): void {
    const code = isMoeError(error) ? error.code : "INVALID_ARGUMENT";
    sendJson(this.#socket, "failure", request, { code, message: messageOf(error) }, sent);
  }

  /** Counts the requests whose answers are not sent yet, and reads on only while there are not too many. */
  #count(change: number): void {
    this.#pending += change;
    if (this.#pending >= this.#service.maxRequests) this.#socket.pause();
    else if (!this.#ending) this.#socket.resume();
    if (this.#ending && this.#pending === 0) this.#socket.destroySoon();
  }
}

/** Refuses what would fail on the device, where a wrong id can fail the request of another client. */
function checkRequest({ count, choices, ids }: TokensMessage, { numExperts }: BankFacts, maxTokens: number): void {
  if (count > maxTokens) throw unexpected("tokens", `at most ${maxTokens}`, `${count}`);
  if (choices < 1 || choices > numExperts) throw unexpected("choices", `1 to ${numExperts}`, `${choices}`);
  const wrong = ids.find((id) => id < -1 || id >= numExperts);
  if (wrong !== undefined) throw unexpected("ids", `-1 to ${numExperts - 1}`, `${wrong}`);
}

/** The bits of a bank's share. */
async function shareOf(layer: MoeLayer, given: TokensMessage): Promise<ArrayBufferView> {
  const { count, choices, dtype, weightDType } = given;
  const { device, description } = layer;
  using made = new Made();
  const x = made.own(device.tensor(given.tokens, [count, description.hiddenSize], dtype));
  const ids = made.own(device.tensor(given.ids, [count, choices]));
  const weights = made.own(device.tensor(given.weights, [count, choices], weightDType as "f32"));
  const y = made.own(layer.forward(x, { routing: { ids, weights } }));
  return await readBits(y);
}

/**
 * Lets other processes use banks of experts: each sends tokens with their routing, and gets the bank's share of the
 * output. See {@link ParallelLayer}. A bank keeps nothing between requests, and any number of clients can share it.
 *
 * The connection is neither encrypted nor protected by a password: listen only where everyone may use the banks.
 * @param layers a layer, usually with a `bank`, or several by their numbers, as `model.loadAll` returns them. They
 * must live until the server is closed.
 * @throws INVALID_ARGUMENT; CONNECTION_FAILED for an address where the system does not let it listen; DISPOSED.
 */
export async function serveBanks(
  layers: MoeLayer | ReadonlyMap<number, MoeLayer>,
  options: ServeOptions = {},
): Promise<BankServer> {
  const given = readLayers(layers);
  const { address: place, ...limits } = serveOptions(options, "options");
  const banks = new Map<number, ServedBank>();
  for (const [number, layer] of given) banks.set(number, { layer, facts: await bankFacts(layer) });
  const server = new BankServer(serviceOf(banks, limits));
  await server.listen(place);
  return server;
}

function readLayers(given: unknown): ReadonlyMap<number, MoeLayer> {
  if (given instanceof MoeLayer) return new Map([[0, given]]);
  const expected = "a MoeLayer, or a Map of at least one by their numbers";
  const entries = entriesOfMap(given);
  if (entries === undefined || entries.length === 0) throw invalidArgument("layers", expected, given);
  const read = integer(0, 2 ** 31 - 1);
  return new Map(
    entries.map(([key, layer]) => {
      const number = read(key, "layers: a number");
      if (!(layer instanceof MoeLayer)) throw invalidArgument(`layers.get(${number})`, "a MoeLayer", layer);
      return [number, layer];
    }),
  );
}
