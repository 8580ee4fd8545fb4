/**
 * The id that a number from 0 to 1 draws from the softmax of logits / temperature; at a temperature of 0 the most likely.
 * Plain loops: a vocabulary has up to some 200,000 tokens.
 */
export function sample(logits: Float32Array, temperature: number, uniform: number): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  if (temperature === 0) return best;
  const shares = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    shares[id] = Math.exp((logits[id] - logits[best]) / temperature);
    sum += shares[id];
  }
  let left = uniform * sum;
  for (let id = 0; id < shares.length; id++) {
    left -= shares[id];
    if (left < 0) return id;
  }
  return best;
}
