#!/usr/bin/env node
import { run } from "./program.js";

// A reader such as `head` may close the pipe early. Later output is lost, but the command still runs to its end, so
// that the exit code does not depend on the reader.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") throw error;
  });
}
process.exitCode = await run(process.argv.slice(2), process);
