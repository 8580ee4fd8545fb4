import { setImmediate } from "node:timers/promises";
import type { LanguageModel } from "../model/language_model.js";
import type { Part, Sequence } from "../model/sequence.js";

/** A text to be continued. */
export interface Continuation {
  /** Its tokens, one at least. */
  readonly prompt: readonly number[];
  /** Takes the token that follows by its logits. @returns the token; undefined if none is needed after it. */
  next(logits: Float32Array): number | undefined;
  /** When it is aborted, the sequence leaves the batch, or the queue, before the next step. */
  readonly signal?: AbortSignal | undefined;
}

export interface Limits {
  /** How many sequences a step forwards at most. */
  readonly running: number;
  /** How many more may wait. */
  readonly waiting: number;
}

/** As many texts are running and waiting as may. */
export class QueueFullError extends Error {
  override readonly name = "QueueFullError";
}

/**
 * How many tokens of prompts a step forwards at most: products with keys take memory for each token and place, and texts whose
 * prompts are done wait for the others'.
 */
const promptTokens = 256;

interface Job {
  readonly continuation: Continuation;
  /** From its first step on. */
  sequence?: Sequence;
  /** Tokens that are not in the sequence yet. */
  left: readonly number[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface JobPart extends Part {
  readonly job: Job;
}

/**
 * Continues texts together (continuous batching). Every step forwards a token of each, or a piece of its prompt. Texts join
 * and leave between steps, in the order in which they came.
 */
export class Engine implements AsyncDisposable {
  readonly #model: LanguageModel;
  readonly #limits: Limits;
  /** Those that run, then those that wait. */
  #jobs: readonly Job[] = [];
  #loop: Promise<void> | undefined;

  constructor(model: LanguageModel, limits: Limits) {
    this.#model = model;
    this.#limits = limits;
  }

  /**
   * Resolves when the text is over.
   *
   * @throws RangeError for an empty prompt, QueueFullError, the reason of the signal, what `next` throws, and the errors of
   * the package: those of a step reach all texts in it.
   */
  continue(continuation: Continuation): Promise<void> {
    const { running, waiting } = this.#limits;
    return new Promise((resolve, reject) => {
      if (continuation.prompt.length === 0) throw new RangeError("prompt: expected at least one token, got none");
      if (this.#jobs.length >= running + waiting) {
        const expected = `at most ${running} texts that run and ${waiting} that wait`;
        throw new QueueFullError(`expected ${expected}, got one more; try again later`);
      }
      this.#jobs = [...this.#jobs, { continuation, left: continuation.prompt, resolve, reject }];
      this.#loop ??= this.#run();
    });
  }

  async #run(): Promise<void> {
    // Texts that come at the same time begin together.
    await setImmediate();
    while (this.#jobs.length > 0) await this.#step();
    this.#loop = undefined;
  }

  async #step(): Promise<void> {
    for (const job of this.#jobs) {
      const { signal } = job.continuation;
      if (signal?.aborted) this.#end(job, () => job.reject(signal.reason));
    }
    const parts = this.#nextParts();
    if (parts.length === 0) return;
    await this.#model.forward(parts).then(
      (logits) => {
        for (const [i, { job, ids }] of parts.entries()) this.#take(job, ids.length, logits[i]);
      },
      // Caches may have some of the tokens, so these sequences cannot go on.
      (error) => {
        for (const { job } of parts) this.#end(job, () => job.reject(error));
      },
    );
  }

  /** What the next step forwards. */
  #nextParts(): readonly JobPart[] {
    const parts: JobPart[] = [];
    let room = promptTokens;
    for (const job of this.#jobs.slice(0, this.#limits.running)) {
      const { length } = job.left;
      const ids = length === 1 ? job.left : job.left.slice(0, room);
      if (ids.length === 0) continue;
      if (length > 1) room -= ids.length;
      this.#try(job, () => {
        job.sequence ??= this.#model.sequence();
        parts.push({ job, sequence: job.sequence, ids });
      });
    }
    return parts;
  }

  /** After a forward of some tokens. */
  #take(job: Job, count: number, logits: Float32Array): void {
    job.left = job.left.slice(count);
    if (job.left.length > 0) return;
    this.#try(job, () => {
      const id = job.continuation.next(logits);
      if (id === undefined) this.#end(job, job.resolve);
      else job.left = [id];
    });
  }

  /** Does what concerns one text alone. */
  #try(job: Job, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#end(job, () => job.reject(error));
    }
  }

  #end(job: Job, settle: () => void): void {
    this.#jobs = this.#jobs.filter((other) => other !== job);
    job.sequence?.[Symbol.dispose]();
    settle();
  }

  /** Waits until all texts are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop;
  }
}
