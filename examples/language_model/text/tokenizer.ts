import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { parseJson } from "../../common/json.js";

/** What a tokenizer is made from. */
export interface TokenizerFiles {
  /** tokenizer.json */
  readonly tokenizer: object;
  /** tokenizer_config.json, of which the special tokens and the chat template are read. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** The tokens that end a text. */
  readonly endIds: readonly number[];
}

/** What someone says in a conversation. */
export interface Message {
  /** "user", "assistant", or what else the model's template knows. */
  readonly role: string;
  readonly content: string;
}

/** Reads the files of a model's directory. @throws RangeError if there is no tokenizer.json. */
export async function readTokenizerFiles(directory: string): Promise<TokenizerFiles> {
  const text = async (name: string) => {
    try {
      return await readFile(join(directory, name), "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };
  const json = async (name: string) => parseJson((await text(name)) ?? "null", join(directory, name));
  const tokenizer = await json("tokenizer.json");
  if (tokenizer === null) {
    throw new RangeError(`${directory}: expected the model's directory, with a tokenizer.json, got none`);
  }
  const template = await text("chat_template.jinja");
  const settings = {
    ...(template !== undefined && { chat_template: template }),
    ...(await json("tokenizer_config.json")),
  };
  const [model, generation] = [await json("config.json"), await json("generation_config.json")];
  return { tokenizer, settings, endIds: [generation?.eos_token_id ?? model?.eos_token_id ?? []].flat() };
}

/** A model's own tokenizer, chat template and end tokens. */
export class TextTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #settings: Readonly<Record<string, unknown>>;
  /** The tokens that end a text. */
  readonly endIds: ReadonlySet<number>;

  constructor({ tokenizer, settings, endIds }: TokenizerFiles) {
    this.#tokenizer = new Tokenizer(tokenizer, settings);
    this.#settings = settings;
    this.endIds = new Set(endIds);
  }

  /** The tokens of a text. */
  encode(text: string): number[] {
    return this.#tokenizer.encode(text).ids;
  }

  /**
   * The tokens of a conversation in the form that the model was trained with, up to where it answers.
   * @throws RangeError if the model has no chat template, and what a template throws.
   */
  encodeChat(messages: readonly Message[]): number[] {
    const { chat_template: template, bos_token, eos_token } = this.#settings;
    if (typeof template !== "string") {
      throw new RangeError("chat: expected a model with a chat template, got one without; give it a text to continue");
    }
    const textOf = (token: unknown) => (token as { content?: string } | undefined)?.content ?? token ?? "";
    const text = new Template(template).render({
      messages,
      add_generation_prompt: true,
      bos_token: textOf(bos_token),
      eos_token: textOf(eos_token),
    });
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The text of tokens; a character that is not complete yet is left out. */
  decode(ids: readonly number[]): string {
    // Cleaning would take spaces away before some characters, also those that are sent already.
    const options = { skip_special_tokens: true, clean_up_tokenization_spaces: false };
    return this.#tokenizer.decode([...ids], options).replace(/\uFFFD+$/, "");
  }
}
