/**
 * The id that a number from 0 to 1 draws from the softmax of logits / temperature; at a temperature of 0 the most likely.
 */
export function sample(logits: Float32Array, temperature: number, uniform: number): number {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  if (temperature === 0) return logits.indexOf(largest);
  const shares = Float64Array.from(logits, (value) => Math.exp((value - largest) / temperature));
  let left = uniform * shares.reduce((sum, share) => sum + share, 0);
  for (let id = 0; id < shares.length; id++) {
    left -= shares[id];
    if (left < 0) return id;
  }
  return logits.indexOf(largest);
}
