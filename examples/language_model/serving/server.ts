import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Device } from "moe-kernels";
import { drawnNumbers } from "../../common/sampling.js";
import { Answer } from "../generation/answer.js";
import { type Engine, QueueFullError } from "../generation/engine.js";
import { errorBody, HttpError } from "./http_error.js";
import { type GenerationRequest, readRequest, type Served, unknownModel } from "./request.js";
import { chatShapes, completionShapes, type Shapes } from "./shapes.js";

export interface ServerOptions extends Served {
  readonly engine: Engine;
  /** The device that the model is on. */
  readonly device: Device;
}

/** The most bytes that a request's body has. */
const bodyBytes = 2 ** 20;

interface Route {
  readonly method: string;
  answer(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void>;
}

/** Answers requests over HTTP as OpenAI's servers do. The engine computes those of all clients together. */
export class ModelServer {
  readonly #options: ServerOptions;
  readonly #http: Server;
  /** Abort the requests that are not answered yet. */
  readonly #open = new Set<AbortController>();
  readonly #routes: ReadonlyMap<string, Route>;
  #closing = false;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#http = createServer((request, response) => void this.#handle(request, response));
    const generating = (source: "prompt" | "messages", shapes: typeof chatShapes): Route => ({
      method: "POST",
      answer: async (request, response, signal) => {
        const asked = readRequest(await readBody(request), source, options);
        await this.#generate(asked, shapes(randomUUID(), options.name), response, signal);
      },
    });
    this.#routes = new Map([
      ["/v1/completions", generating("prompt", completionShapes)],
      ["/v1/chat/completions", generating("messages", chatShapes)],
      ["/v1/models", { method: "GET", answer: async (_, response) => this.#models(response) }],
    ]);
  }

  /** @param port 0 for any that is free. @returns the address. */
  async listen(port: number, host: string): Promise<AddressInfo> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once("error", reject);
      this.#http.listen(port, host, () => {
        this.#http.off("error", reject);
        resolve();
      });
    });
    return this.#http.address() as AddressInfo;
  }

  /** Refuses new requests, and waits until all that came before are answered. */
  async close(): Promise<void> {
    this.#closing = true;
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve());
      this.#disconnect();
    });
  }

  /** Connections that stay open, or never have a request, would keep the server from closing. */
  #disconnect(): void {
    if (this.#closing && this.#open.size === 0) this.#http.closeAllConnections();
  }

  /** Ends the requests that are not answered yet. */
  abort(): void {
    for (const controller of this.#open) controller.abort(new HttpError(503, "shutting_down", "the server ends"));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const controller = new AbortController();
    this.#open.add(controller);
    // Also where a client leaves before its answer has ended.
    response.once("close", () => {
      this.#open.delete(controller);
      controller.abort();
      this.#disconnect();
    });
    try {
      await this.#route(request, response).answer(request, response, controller.signal);
    } catch (error) {
      fail(response, httpErrorOf(error));
    }
  }

  #route({ method, url = "" }: IncomingMessage, response: ServerResponse): Route {
    if (this.#closing) throw new HttpError(503, "shutting_down", "the server is shutting down");
    const path = url.replace(/\?.*$/, "");
    const route = this.#routes.get(path) ?? this.#modelRoute(path);
    if (route === undefined) {
      const expected = [...this.#routes.keys()].join(", ");
      throw new HttpError(404, "not_found", `expected one of ${expected}, got ${JSON.stringify(path)}`);
    }
    if (route.method === method) return route;
    response.setHeader("allow", route.method);
    throw new HttpError(405, "method_not_allowed", `${path}: expected ${route.method}, got ${method}`);
  }

  async #generate(
    { prompt, tokens, temperature, topP, seed, stop, stream, usage: wanted }: GenerationRequest,
    shapes: Shapes,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const { engine, tokenizer, device } = this.#options;
    const send = (event: object) => {
      // Only now, so that errors before the first token have a status of their own.
      if (!response.headersSent) {
        response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
        for (const first of shapes.begin()) sendEvent(response, first);
      }
      sendEvent(response, event);
    };
    const answer = new Answer(tokenizer, {
      ...{ temperature, topP, stop },
      numbers: await drawnNumbers(device, seed, tokens),
      onText: (text) => stream && send(shapes.piece(text)),
    });
    await engine.continue({ prompt, next: (logits) => answer.next(logits), signal });
    const reason = answer.ended ? "stop" : "length";
    const counts = [prompt.length, answer.length] as const;
    const usage = { prompt_tokens: counts[0], completion_tokens: counts[1], total_tokens: counts[0] + counts[1] };
    if (!stream) {
      sendJson(response, 200, shapes.body(answer.text, reason, usage));
      return;
    }
    send(shapes.end(reason));
    if (wanted) send(shapes.usage(usage));
    response.end("data: [DONE]\n\n");
  }

  #models(response: ServerResponse): void {
    sendJson(response, 200, { object: "list", data: [this.#model()] });
  }

  #model(): object {
    return { id: this.#options.name, object: "model", created: 0, owned_by: "local" };
  }

  /** Of /v1/models/NAME, where a slash of the name may be as it is. */
  #modelRoute(path: string): Route | undefined {
    const [, given] = /^\/v1\/models\/(.+)$/.exec(path) ?? [];
    if (given === undefined) return undefined;
    const { name } = this.#options;
    return {
      method: "GET",
      answer: async (_, response) => {
        if (decoded(given) !== name) throw unknownModel(name, given);
        sendJson(response, 200, this.#model());
      },
    };
  }
}

/** A part of a path, as it is if it is no encoded text. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** @throws HttpError for a body that is too large, or not JSON by its type. */
async function readBody(request: IncomingMessage): Promise<string> {
  // Browsers send other types to other sites without asking.
  const type = request.headers["content-type"] ?? "none";
  if (!/^application\/json\b/i.test(type)) {
    throw new HttpError(415, "unsupported_media_type", `content-type: expected application/json, got ${type}`);
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The connection stays, for the answer.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += chunk.length;
    if (bytes > bodyBytes) break;
    chunks.push(chunk);
  }
  if (bytes > bodyBytes) {
    // Some clients read no answer before they have sent everything.
    request.resume();
    throw new HttpError(413, "too_large", `body: expected at most ${bodyBytes} bytes, got more`);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function httpErrorOf(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof QueueFullError) return new HttpError(429, "queue_full", error.message);
  return new HttpError(500, "internal_error", (error as Error).message);
}

/** Says what went wrong: in the answer's place, or as the last event of a stream that has begun. */
function fail(response: ServerResponse, error: HttpError): void {
  if (!response.headersSent) {
    sendJson(response, error.status, errorBody(error));
    return;
  }
  sendEvent(response, errorBody(error));
  response.end();
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function sendEvent(response: ServerResponse, data: object): void {
  response.write(`data: ${JSON.stringify(data)}\n\n`);
}
