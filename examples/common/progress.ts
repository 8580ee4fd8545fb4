/** Shows how far a run is: a bar on a terminal, otherwise a line at every tenth. */
export class Progress {
  readonly #total: number;
  readonly #begin = performance.now();
  readonly #first: number;
  #tenths = 0;

  /** @param done of `total` already, by an earlier run. */
  constructor(total: number, done = 0) {
    this.#total = total;
    this.#first = done;
    this.#tenths = Math.floor((10 * done) / total);
  }

  update(done: number, text: string): void {
    const share = done / this.#total;
    const seconds = (performance.now() - this.#begin) / 1000;
    const left = ((this.#total - done) * seconds) / Math.max(1, done - this.#first);
    const line = `${String(done).padStart(String(this.#total).length)}/${this.#total} ${text}, ${clock(left)} left`;
    if (process.stdout.isTTY) {
      const full = Math.round(share * 24);
      process.stdout.write(
        `\r\x1b[K${"█".repeat(full)}${"░".repeat(24 - full)} ${line}${done === this.#total ? "\n" : ""}`,
      );
      return;
    }
    const tenths = Math.floor(10 * share);
    if (tenths > this.#tenths || done === this.#total) console.log(line);
    this.#tenths = tenths;
  }
}

function clock(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
