import { type Device, random } from "moe-kernels";
import { ignored } from "../model/loss.js";
import type { Batch } from "./trainer.js";

/** Tokens of one instruction with its answer; what is left is padding. */
const length = 32;
const newline = 10;

/** What an instruction asks of a word. */
const tasks: Readonly<Record<string, (word: string) => string>> = {
  copy: (word) => word,
  upper: (word) => word.toUpperCase(),
  first: (word) => word.charAt(0),
  last: (word) => word.charAt(word.length - 1),
  length: (word) => String(word.length),
  reverse: (word) => [...word].reverse().join(""),
};
export const taskNames = Object.keys(tasks);

export interface Instruction {
  readonly task: string;
  readonly prompt: string;
  readonly answer: string;
}

/** Instructions about the words of a text, such as `reverse lord:drol`. A fifth of the words is held out. */
export class Instructions {
  readonly #trained: readonly string[];
  readonly #heldOut: readonly string[];

  constructor(text: Uint8Array) {
    const words = [...new Set(new TextDecoder().decode(text).match(/\b[a-z]{3,8}\b/g))].sort();
    this.#trained = words.filter((_, index) => index % 5 !== 0);
    this.#heldOut = words.filter((_, index) => index % 5 === 0);
    if (this.#heldOut.length === 0) throw new RangeError("text: expected words of 3 to 8 letters, got none");
  }

  /** Instructions of a step, drawn at random. */
  draw(device: Device, seed: number, step: number, count: number): Instruction[] {
    using uniform = random(device, [count, 2], { seed, distribution: "uniform", offset: 2 * count * step });
    const numbers = uniform.dataSync();
    return Array.from({ length: count }, (_, index) =>
      instruction(choose(taskNames, numbers[2 * index]), choose(this.#trained, numbers[2 * index + 1])),
    );
  }

  /** Instructions about words that are never drawn, as many of each task. */
  heldOut(perTask: number): Instruction[] {
    const words = Array.from({ length: perTask }, (_, index) => choose(this.#heldOut, index / perTask));
    return taskNames.flatMap((task) => words.map((word) => instruction(task, word)));
  }
}

function choose<T>(all: readonly T[], share: number): T {
  return all[Math.floor(share * all.length)];
}

function instruction(task: string, word: string): Instruction {
  return { task, prompt: `${task} ${word}:`, answer: `${tasks[task](word)}\n` };
}

/** One sequence for each instruction; only the bytes of answers are predicted. */
export function instructionBatch(instructions: readonly Instruction[]): Batch {
  const ids = new Int32Array(instructions.length * length).fill(newline);
  const targets = new Int32Array(ids.length).fill(ignored);
  instructions.forEach(({ prompt, answer }, sequence) => {
    const bytes = new TextEncoder().encode(prompt + answer);
    const begin = sequence * length;
    ids.set(bytes.subarray(0, length), begin);
    for (let place = prompt.length; place < bytes.length; place++) targets[begin + place - 1] = bytes[place];
  });
  return { ids, targets, sequences: instructions.length };
}

/** For each instruction, whether every byte of its answer is predicted, given those before: what greedy generation gives. */
export function rightAnswers({ targets, sequences }: Batch, predicted: Int32Array): boolean[] {
  return Array.from({ length: sequences }, (_, sequence) => {
    for (let token = sequence * length; token < (sequence + 1) * length; token++) {
      if (targets[token] !== ignored && targets[token] !== predicted[token]) return false;
    }
    return true;
  });
}
