import { sample } from "../../common/sample.js";
import type { TextTokenizer } from "../text/tokenizer.js";

export interface AnswerOptions {
  readonly temperature: number;
  /** Numbers from 0 to 1 by which tokens are drawn: one for each that the answer may have. */
  readonly numbers: Float32Array;
  /** Called with the text of every token, as far as its characters are complete. */
  readonly onText: (text: string) => void;
}

/** What a model answers, token by token. */
export class Answer {
  readonly #tokenizer: TextTokenizer;
  readonly #options: AnswerOptions;
  readonly #ids: number[] = [];
  #text = "";
  #ended = false;

  constructor(tokenizer: TextTokenizer, options: AnswerOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** Draws the next token. @returns undefined if the answer is over. */
  next(logits: Float32Array): number | undefined {
    const { temperature, numbers, onText } = this.#options;
    const id = sample(logits, temperature, numbers[this.#ids.length]);
    this.#ended = this.#tokenizer.endIds.has(id);
    if (this.#ended) return undefined;
    this.#ids.push(id);
    const before = this.#text.length;
    this.#text = this.#tokenizer.decode(this.#ids);
    if (this.#text.length > before) onText(this.#text.slice(before));
    return this.#ids.length < numbers.length ? id : undefined;
  }

  get text(): string {
    return this.#text;
  }

  /** How many tokens there are, without one that ended it. */
  get length(): number {
    return this.#ids.length;
  }

  /** Whether a token ended it, rather than its length. */
  get ended(): boolean {
    return this.#ended;
  }
}
