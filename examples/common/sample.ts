/**
 * The id that a number from 0 to 1 draws from the softmax of logits / temperature; at a temperature of 0 the most likely.
 * Plain loops: a vocabulary has up to some 200,000 tokens.
 *
 * @param topP only the most likely ids are drawn, of which the fewest have this share together (nucleus sampling, arXiv 1904.09751).
 */
export function sample(logits: Float32Array, temperature: number, uniform: number, topP = 1): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  if (temperature === 0) return best;
  const shares = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    shares[id] = Math.exp((logits[id] - logits[best]) / temperature);
    sum += shares[id];
  }
  if (topP < 1) sum = keepTop(shares, sum, topP);
  let left = uniform * sum;
  for (let id = 0; id < shares.length; id++) {
    left -= shares[id];
    if (left < 0) return id;
  }
  return best;
}

/** Takes its share from all but the most likely ids; of equal ones, the first are kept. @returns the sum of what is left. */
function keepTop(shares: Float64Array, sum: number, topP: number): number {
  // All ids below this have less than 1 - topP together, so none of them is kept.
  const least = ((1 - topP) * sum) / shares.length;
  const likely: number[] = [];
  for (let id = 0; id < shares.length; id++) if (shares[id] >= least) likely.push(id);
  likely.sort((a, b) => shares[b] - shares[a] || a - b);
  let [count, kept] = [0, 0];
  do kept += shares[likely[count++]];
  while (count < likely.length && kept < topP * sum);
  const all = shares.slice();
  shares.fill(0);
  for (const id of likely.slice(0, count)) shares[id] = all[id];
  return kept;
}
