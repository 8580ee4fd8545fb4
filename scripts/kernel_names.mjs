// Names of kernels for people.
import { spawnSync } from "node:child_process";

/** The names of kernels with their template arguments, given the compiler's names of them. Needs c++filt of binutils. */
export function readableKernels(symbols) {
  const { status, stdout, stderr, error } = spawnSync("c++filt", {
    input: symbols.join("\n"),
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  if (error || status !== 0) throw new Error(`c++filt: ${error?.message ?? stderr.trim()}; it is part of binutils`);
  const names = stdout.trimEnd().split("\n");
  return symbols.map((_, i) => shorten(names[i]));
}

function shorten(full) {
  return (
    full
      .match(/(\w+_kernel(<.*>)?)\(/)?.[1]
      .replaceAll("signed char", "int8")
      .replaceAll(/\(int\)|moe::(cuda::|gpu::)?|\(anonymous namespace\)::/g, "") ?? full
  );
}
