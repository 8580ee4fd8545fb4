import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { MoeError, messageOf, unexpected } from "../../core/errors.js";
import { type Fields, list, object, optional, positive, type Read, record, text } from "../../core/input/options.js";
import { printable } from "../../core/text/printable.js";
import { checkSubject } from "./run_cases.js";
import { timerDelay } from "./settled.js";
import type { Subject, SubjectInputs, UntypedOperator } from "./subject.js";
import { quoted, readAnswer, readGreeting, requestLine, wrongAnswer } from "./wire.js";

/** Options of {@link processSubject}. */
export interface ProcessSubjectOptions {
  /** What follows the command; default nothing. */
  args?: readonly string[] | undefined;
  /** The directory that it runs in; default this process's. */
  cwd?: string | undefined;
  /** Its environment; default this process's. */
  env?: Readonly<Record<string, string>> | undefined;
  /** Seconds after which a process that does not answer, or does not end, is killed; default 300. */
  timeout?: number | undefined;
}

const processOptions = object(
  {
    args: optional(list(text), []),
    cwd: optional(text),
    env: optional(record(text, "an object of strings")),
    timeout: optional(positive, 300),
  } satisfies Fields<ProcessSubjectOptions>,
  '{ args: ["peer.py"] }',
);

/**
 * A subject in another process, in any language. The process reads calls from its standard input and writes answers to its
 * standard output, a line of JSON each; what it writes to standard error is shown. It ends when its input does.
 *
 *     export default await processSubject("python3", { args: ["peer.py"] });
 *
 * Its first line says what it is: `{"name": "mine", "operators": ["permute"]}`. A call is `{"id": 1, "operator": "permute",
 * "inputs": {...}}` with the inputs of {@link SubjectOperator}, in which arrays are `{"dtype", "shape", "data"}` with the bytes in base64,
 * little-endian. Its answer is `{"outputs": {"rows": ...}}` with the bytes in base64, or numbers in a list, or `{"unsupported":
 * "why"}`, or `{"error": "what"}`, best with the `id` of the call: an answer that is written twice is then not taken for that to the next call.
 *
 * @throws INVALID_ARGUMENT if the command cannot be started or does not answer in time, or its first line is something else or
 * names operators without cases.
 */
export async function processSubject(command: string, options: ProcessSubjectOptions = {}): Promise<Subject> {
  const given = processOptions(options, "options");
  if (text(command, "command") === "") throw unexpected("command", "the name of a program", "an empty string");
  const peer = new Peer(command, given);
  try {
    const { name, operators } = readGreeting(await peer.line());
    const call =
      (operator: string): UntypedOperator =>
      (inputs) =>
        peer.call(operator, inputs);
    const subject: unknown = {
      name,
      operators: Object.fromEntries(operators.map((operator) => [operator, call(operator)])),
      close: () => peer.close(),
    };
    checkSubject(subject);
    return subject;
  } catch (error) {
    await peer.close();
    throw error;
  }
}

const cannotStart = (why: string) => `it cannot be started: ${why}`;

function noAnswer(command: string, why: string): MoeError {
  return unexpected("command", "a process that answers", printable(`${command}: ${why}`));
}

/** A process that answers one line after another. */
class Peer {
  readonly #command: string;
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: string[] = [];
  /** Settles when the process has ended and its lines are read. */
  readonly #ended: Promise<void>;
  /** Why there are no more lines. */
  #end: string | undefined;
  #wake: () => void = () => {};
  /** Calls so far, which are their numbers. */
  #calls = 0;
  /** The last call; settles when it has its answer. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #timeout: number;
  readonly #reader: Interface;

  constructor(command: string, { args, cwd, env, timeout }: Read<typeof processOptions>) {
    this.#command = command;
    this.#timeout = timeout;
    try {
      this.#process = spawn(command, args, {
        stdio: ["pipe", "pipe", "inherit"],
        ...(cwd !== undefined && { cwd }),
        ...(env !== undefined && { env: env as NodeJS.ProcessEnv }),
      });
    } catch (error) {
      throw noAnswer(command, cannotStart(messageOf(error)));
    }
    // A process that ends while it is written to is told of by its end.
    this.#process.stdin.on("error", () => {});
    this.#reader = createInterface({ input: this.#process.stdout });
    this.#reader.on("line", (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    const read = new Promise<void>((resolve) => this.#reader.once("close", resolve));
    this.#ended = new Promise((resolve) => {
      const end = (why: string) => {
        this.#end ??= why;
        this.#wake();
        resolve();
      };
      this.#process.once("error", ({ message }) => end(cannotStart(message)));
      this.#process.once(
        "exit",
        (code, signal) => void read.then(() => end(`it ended with ${signal ?? `code ${code}`}`)),
      );
    });
  }

  /** The next line. @throws INVALID_ARGUMENT once there is none. */
  async line(): Promise<string> {
    const timer = this.#killLater("answer");
    try {
      for (;;) {
        const line = this.#lines.shift();
        if (line !== undefined) return line;
        if (this.#end !== undefined) throw noAnswer(this.#command, this.#end);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Asks the process, after the calls before: of answers without an id, only their order tells to what they are. */
  async call(operator: string, inputs: SubjectInputs) {
    const id = ++this.#calls;
    const request = requestLine(id, operator, inputs);
    const answer = this.#last.then(async () => {
      const [early] = this.#lines;
      if (early !== undefined) this.#kill(`it wrote a line that nobody asked for: ${quoted(early)}`);
      this.#process.stdin.write(request);
      const line = await this.line();
      const wrong = wrongAnswer(line, id);
      if (wrong !== undefined) {
        // What it writes from now on could be taken for answers to other calls.
        this.#kill(wrong);
        throw new MoeError("INVALID_ARGUMENT", wrong);
      }
      return readAnswer(line, inputs.outputs);
    });
    this.#last = answer.catch(() => {});
    return await answer;
  }

  async close(): Promise<void> {
    const timer = this.#killLater("end");
    this.#process.stdin.end();
    await this.#ended;
    clearTimeout(timer);
  }

  /** Kills the process if it does not do `what` in time. */
  #killLater(what: string): NodeJS.Timeout {
    const kill = () => this.#kill(`it did not ${what} within ${this.#timeout} seconds`);
    return setTimeout(kill, timerDelay(this.#timeout));
  }

  #kill(why: string): void {
    this.#end ??= why;
    this.#lines.length = 0;
    this.#process.kill("SIGKILL");
    // A process that it has started may hold the pipe open.
    this.#reader.close();
    this.#process.stdout.destroy();
    this.#wake();
  }
}
