#!/usr/bin/env node
import { run } from "./program.js";

// A reader that has seen enough, such as `head`, closes the pipe. What is written from then on is lost, and the command goes
// on to its end: the exit code tells what came of it, whoever reads along.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") throw error;
  });
}
process.exitCode = await run(process.argv.slice(2), process);
