import { type Device, random } from "moe-kernels";
import { UsageError, type Values } from "./command.js";

/** The value of --temperature. */
export function givenTemperature(values: Values): number {
  const temperature = values.number("temperature");
  if (temperature >= 0) return temperature;
  throw new UsageError(`--temperature: expected a number >= 0, got ${temperature}`);
}

/** The value of --top-p. */
export function givenTopP(values: Values): number {
  const share = values.number("top-p");
  if (share >= 0 && share <= 1) return share;
  throw new UsageError(`--top-p: expected a number from 0 to 1, got ${share}`);
}

/** Numbers from 0 to 1 by which tokens are drawn, those of --seed. */
export async function givenNumbers(values: Values, device: Device, count: number) {
  return await drawnNumbers(device, values.integer("seed", 0), count);
}

/** Numbers from 0 to 1, the same for a seed. */
export async function drawnNumbers(device: Device, seed: number, count: number): Promise<Float32Array> {
  using uniform = random(device, [count], { seed, distribution: "uniform" });
  return await uniform.data();
}
