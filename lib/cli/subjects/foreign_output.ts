/**
 * Until it is disposed of, what code from outside writes to standard output goes to standard error, so that results stay
 * apart from it.
 */
export function redirectForeignOutput(): Disposable {
  const { stdout, stderr } = process;
  const { write } = stdout;
  stdout.write = stderr.write.bind(stderr) as typeof write;
  return {
    [Symbol.dispose]() {
      stdout.write = write;
    },
  };
}
