import { randomInt } from "node:crypto";
import type { Sampling } from "../generation/answer.js";
import type { Message, TextTokenizer } from "../text/tokenizer.js";
import { HttpError } from "./http_error.js";

/** What a client asks for. */
export interface GenerationRequest extends Required<Sampling> {
  readonly prompt: readonly number[];
  /** How many tokens at most. */
  readonly tokens: number;
  readonly topP: number;
  readonly seed: number;
  /** Texts that end the answer, which is without them. */
  readonly stop: readonly string[];
  /** Whether each token is sent when it is there. */
  readonly stream: boolean;
  /** Whether a stream ends with the numbers of tokens. */
  readonly usage: boolean;
}

/** What requests are for. */
export interface Served {
  /** The model's name. */
  readonly name: string;
  readonly tokenizer: TextTokenizer;
  /** How many tokens the model knows. */
  readonly vocabulary: number;
  /** How many tokens a prompt and its answer have at most. */
  readonly context: number;
}

/** Fields that would change the answer if they had another value, and those of others that do not. */
const fixed: Readonly<Record<string, readonly unknown[]>> = {
  ...{ n: [1], best_of: [1], presence_penalty: [0], frequency_penalty: [0], logit_bias: [{}], suffix: [""] },
  ...{
    echo: [false],
    logprobs: [false],
    tools: [[]],
    tool_choice: ["none", "auto"],
    response_format: [{ type: "text" }],
  },
};
const ignored: ReadonlySet<string> = new Set([
  ...["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"],
]);
const read: ReadonlySet<string> = new Set([
  ...["model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"],
  ...["stream", "stream_options"],
]);

/**
 * Reads a body as OpenAI describes it: `prompt` of /v1/completions, or `messages` of /v1/chat/completions.
 *
 * @throws HttpError for what this server does not do, rather than ignore it.
 */
export function readRequest(text: string, source: "prompt" | "messages", served: Served): GenerationRequest {
  const fields = new Fields(parsed(text));
  const name = fields.get("model", "a string", isString, served.name);
  if (name !== served.name) {
    throw unknownModel(served.name, name);
  }
  fields.refuseOthers(new Set([...read, source]));
  const prompt = source === "prompt" ? readPrompt(fields, served) : readMessages(fields, served);
  const room = served.context - prompt.length;
  if (room < 1) {
    const expected = `fewer tokens than the ${served.context} that this server has for a prompt and its answer`;
    const message = `${source}: expected ${expected}, got ${prompt.length}`;
    throw new HttpError(400, "context_length_exceeded", message, source);
  }
  const limit = fields.get("max_tokens", "an integer above 0", isCount, room);
  const options = fields.get("stream_options", "an object", isObject, {});
  return {
    prompt,
    tokens: Math.min(room, fields.get("max_completion_tokens", "an integer above 0", isCount, limit)),
    temperature: fields.get("temperature", "a number >= 0", isTemperature, 1),
    topP: fields.get("top_p", "a number from 0 to 1", isShare, 1),
    seed: fields.get("seed", "an integer >= 0", isSeed, randomInt(2 ** 32)),
    stop: [fields.get("stop", "a text, or an array of texts, none of them empty", isStop, [])].flat(),
    stream: fields.get("stream", "true or false", isBoolean, false),
    usage: new Fields(options, "stream_options.").get("include_usage", "true or false", isBoolean, false),
  };
}

/** @param given what a client has instead of the model's name. */
export function unknownModel(name: string, given: string): HttpError {
  return new HttpError(404, "model_not_found", `model: expected ${shown(name)}, got ${shown(given)}`, "model");
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new HttpError(400, "invalid_json", `body: expected JSON: ${(error as Error).message}`);
  }
  if (isObject(value)) return value;
  throw new HttpError(400, "invalid_json", `body: expected an object, got ${shown(value)}`);
}

function readPrompt(fields: Fields, { tokenizer, vocabulary }: Served): readonly number[] {
  const isIds = (value: unknown): value is readonly number[] =>
    Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0 && id < vocabulary);
  const isPrompt = (value: unknown): value is string | readonly number[] => isString(value) || isIds(value);
  // Several prompts may be an array, which clients also send for one.
  const isOnly = (value: unknown): value is readonly [string | readonly number[]] =>
    Array.isArray(value) && value.length === 1 && isPrompt(value[0]);
  const expected = `a text, or ids of tokens below ${vocabulary}, or an array with one of these`;
  const given = fields.get("prompt", expected, (value) => isOnly(value) || isPrompt(value));
  const prompt = isOnly(given) ? given[0] : given;
  return checked("prompt", isString(prompt) ? tokenizer.encode(prompt) : prompt, vocabulary);
}

function readMessages(fields: Fields, { tokenizer, vocabulary }: Served): readonly number[] {
  const given = fields.get("messages", "an array of { role, content }, both texts", isMessages);
  const messages = given.map(({ role, content }) => ({ role, content: isString(content) ? content : joined(content) }));
  try {
    return checked("messages", tokenizer.encodeChat(messages), vocabulary);
  } catch (error) {
    // Templates refuse roles, and orders of them, that the model was not trained with.
    if (error instanceof HttpError) throw error;
    throw new HttpError(400, "invalid_messages", `messages: ${(error as Error).message}`, "messages");
  }
}

/** An id that the model lacks would be an error of whatever waits next on the device, so none gets there. */
function checked(name: string, ids: readonly number[], vocabulary: number): readonly number[] {
  if (ids.length === 0)
    throw new HttpError(400, "invalid_value", `${name}: expected at least one token, got none`, name);
  const unknown = ids.find((id) => id >= vocabulary);
  if (unknown === undefined) return ids;
  throw new HttpError(400, "invalid_value", `${name}: expected ids below ${vocabulary}, got token ${unknown}`, name);
}

const isString = (value: unknown): value is string => typeof value === "string";
const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) > 0;
const isSeed = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isTemperature = (value: unknown): value is number => Number.isFinite(value) && Number(value) >= 0;
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isShare = (value: unknown): value is number => typeof value === "number" && value >= 0 && value <= 1;
const isStop = (value: unknown): value is string | readonly string[] =>
  [value].flat().every((text) => isString(text) && text !== "");

/** A message's content may be in parts, of which this server knows texts. */
type Content = string | readonly { readonly text: string }[];
const isContent = (value: unknown): value is Content =>
  isString(value) ||
  (Array.isArray(value) && value.every((part) => isObject(part) && part.type === "text" && isString(part.text)));
const isMessages = (value: unknown): value is readonly (Omit<Message, "content"> & { readonly content: Content })[] =>
  Array.isArray(value) && value.every((each) => isObject(each) && isString(each.role) && isContent(each.content));
const joined = (parts: Exclude<Content, string>) => parts.map(({ text }) => text).join("");

/** The fields of an object, where null is as good as none. */
class Fields {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #prefix: string;

  constructor(fields: Readonly<Record<string, unknown>>, prefix = "") {
    this.#fields = fields;
    this.#prefix = prefix;
  }

  get<T>(name: string, expected: string, accepts: (value: unknown) => value is T, standard?: T): T {
    const value = this.#fields[name] ?? standard;
    if (accepts(value)) return value;
    const param = `${this.#prefix}${name}`;
    throw new HttpError(400, "invalid_value", `${param}: expected ${expected}, got ${shown(value)}`, param);
  }

  /** Refuses fields that would change an answer. */
  refuseOthers(known: ReadonlySet<string>): void {
    for (const [name, value] of Object.entries(this.#fields)) {
      if (known.has(name) || ignored.has(name) || value === null) continue;
      const harmless = Object.hasOwn(fixed, name) ? fixed[name] : [];
      if (harmless.some((each) => shown(each) === shown(value))) continue;
      const expected = harmless.length > 0 ? shown(harmless[0]) : "no such field";
      throw new HttpError(400, "unsupported_field", `${name}: expected ${expected}, got ${shown(value)}`, name);
    }
  }
}

/** A value in a message. */
function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? "none";
  } catch {
    // The stack ends before arrays that are nested so deeply do, although a parser takes them.
    text = "a value that is nested too deeply to be shown";
  }
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
