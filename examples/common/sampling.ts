import { type Device, random } from "moe-kernels";
import { UsageError, type Values } from "./command.js";

/** The value of --temperature. */
export function givenTemperature(values: Values): number {
  const temperature = values.number("temperature");
  if (temperature >= 0) return temperature;
  throw new UsageError(`--temperature: expected a number >= 0, got ${temperature}`);
}

/** Numbers from 0 to 1 by which tokens are drawn, those of --seed. */
export async function givenNumbers(values: Values, device: Device, count: number) {
  using uniform = random(device, [count], { seed: values.integer("seed", 0), distribution: "uniform" });
  return await uniform.data();
}
