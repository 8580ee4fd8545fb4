import { sample } from "../../common/sample.js";
import type { TextTokenizer } from "../text/tokenizer.js";

/** How tokens are drawn. */
export interface Sampling {
  /** 0 takes the most likely token every time. */
  readonly temperature: number;
  /** Only the most likely tokens are drawn, which have this share together; default 1, for all. */
  readonly topP?: number | undefined;
}

export interface AnswerOptions extends Sampling {
  /** Numbers from 0 to 1 by which tokens are drawn: one for each that the answer may have. */
  readonly numbers: Float32Array;
  /** Texts before the first of which the answer ends; default none. */
  readonly stop?: readonly string[] | undefined;
  /** Called with the text of every token, as far as its characters are complete and it is no beginning of a text to stop at. */
  readonly onText: (text: string) => void;
}

/** What a model answers, token by token. */
export class Answer {
  readonly #tokenizer: TextTokenizer;
  readonly #options: AnswerOptions;
  readonly #stop: readonly string[];
  readonly #ids: number[] = [];
  #text = "";
  /** How much of the text `onText` has had. */
  #told = 0;
  #ended = false;

  constructor(tokenizer: TextTokenizer, options: AnswerOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#stop = options.stop ?? [];
  }

  /** Draws the next token. @returns undefined if the answer is over. */
  next(logits: Float32Array): number | undefined {
    const { temperature, topP, numbers } = this.#options;
    const id = sample(logits, temperature, numbers[this.#ids.length], topP);
    if (this.#tokenizer.endIds.has(id)) return this.#end();
    this.#ids.push(id);
    this.#text = this.#tokenizer.decode(this.#ids);
    const found = this.#stop.map((text) => this.#text.indexOf(text)).filter((place) => place >= 0);
    if (found.length > 0) {
      this.#text = this.#text.slice(0, Math.min(...found));
      return this.#end();
    }
    const isLast = this.#ids.length === numbers.length;
    this.#tell(isLast ? this.#text.length : this.#text.length - heldBack(this.#text, this.#stop));
    return isLast ? undefined : id;
  }

  get text(): string {
    return this.#text;
  }

  /** How many tokens there are, without one that ended it. */
  get length(): number {
    return this.#ids.length;
  }

  /** Whether a token or a text to stop at ended it, rather than its length. */
  get ended(): boolean {
    return this.#ended;
  }

  #end(): undefined {
    this.#ended = true;
    this.#tell(this.#text.length);
  }

  #tell(end: number): void {
    if (end <= this.#told) return;
    this.#options.onText(this.#text.slice(this.#told, end));
    this.#told = end;
  }
}

/** How many characters at the end of a text may be the beginning of one of these. */
function heldBack(text: string, stop: readonly string[]): number {
  const most = Math.max(0, ...stop.map(({ length }) => length - 1));
  for (let count = Math.min(most, text.length); count > 0; count--) {
    const end = text.slice(-count);
    if (stop.some((each) => each.startsWith(end))) return count;
  }
  return 0;
}
