import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";

/** A model's own tokenizer, chat template and end tokens, from its directory. */
export class TextTokenizer {
  readonly #directory: string;
  readonly #tokenizer: Tokenizer;
  // biome-ignore lint/suspicious/noExplicitAny: a parsed JSON file.
  readonly #settings: any;
  /** The tokens that end a text. */
  readonly endIds: ReadonlySet<number>;

  // biome-ignore lint/suspicious/noExplicitAny: a parsed JSON file.
  private constructor(directory: string, tokenizer: Tokenizer, settings: any, endIds: ReadonlySet<number>) {
    this.#directory = directory;
    this.#tokenizer = tokenizer;
    this.#settings = settings;
    this.endIds = endIds;
  }

  static async load(directory: string): Promise<TextTokenizer> {
    const read = async (name: string) => {
      try {
        return JSON.parse(await readFile(join(directory, name), "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    };
    const tokens = await read("tokenizer.json");
    if (tokens === undefined) {
      throw new RangeError(`${directory}: expected the model's directory, with a tokenizer.json, got none`);
    }
    const settings = (await read("tokenizer_config.json")) ?? {};
    const [model, generation] = [await read("config.json"), await read("generation_config.json")];
    const ends = [generation?.eos_token_id ?? model?.eos_token_id ?? []].flat();
    return new TextTokenizer(directory, new Tokenizer(tokens, settings), settings, new Set(ends));
  }

  /** The tokens of a text. */
  encode(text: string): number[] {
    return this.#tokenizer.encode(text).ids;
  }

  /** The tokens of what a user says, in the form that the model was trained with, up to where it answers. */
  async encodeChat(content: string): Promise<number[]> {
    const path = join(this.#directory, "chat_template.jinja");
    const template = this.#settings.chat_template ?? (await readFile(path, "utf8"));
    const token = (name: string) => this.#settings[name]?.content ?? this.#settings[name] ?? "";
    const text = new Template(template).render({
      messages: [{ role: "user", content }],
      add_generation_prompt: true,
      bos_token: token("bos_token"),
      eos_token: token("eos_token"),
    });
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The text of tokens; a character that is not complete yet is left out. */
  decode(ids: readonly number[]): string {
    return this.#tokenizer.decode([...ids], { skip_special_tokens: true }).replace(/\uFFFD+$/, "");
  }
}
