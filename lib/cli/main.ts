#!/usr/bin/env node
import { run } from "./program.js";

// A reader such as `head` may close the pipe early. Later output is lost, but the command still runs to its end, so
// that the exit code does not depend on the reader. Results that cannot be written for another reason, such as a full
// disk, are an error; progress and messages that cannot be written are not.
process.stderr.on("error", () => {});
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED") return;
  process.stderr.write(`moe-kernels: cannot write to standard output: ${error.message}\n`);
  process.exit(1);
});
let isDone = false;
// A module from outside, such as a subject, may end the process. What was not done then must not look like success.
process.on("exit", (code) => {
  if (isDone || code !== 0) return;
  process.stderr.write("moe-kernels: a module ended the process before the command was done\n");
  process.exitCode = 1;
});
process.exitCode = await run(process.argv.slice(2), process);
isDone = true;
// A module from outside may have left something at work, such as a call that never ends.
const written = [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write("", resolve)));
await Promise.all(written);
process.exit();
