const twoOverSqrtPi = 2 / Math.sqrt(Math.PI);

/** The continued fraction converges faster than the series from here on. */
const crossover = 2;

/** Terms after which each expansion has converged to the last bit on its side of the crossover. */
const terms = 60;

/**
 * The error function of |x| < 2: erf x = 2/√π · e^(-x²) · Σₙ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)), NIST DLMF 7.6.2. All terms
 * have the same sign, so nothing cancels.
 */
function series(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < terms; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return twoOverSqrtPi * Math.exp(-x * x) * sum;
}

/**
 * The complement for x >= 2 by Laplace's continued fraction, √π · e^(x²) · erfc x = 1/(x + ½/(x + 1/(x + 3⁄2/(x +
 * …)))), Abramowitz and Stegun 7.1.14, evaluated from its end.
 */
function continuedFraction(x: number): number {
  let fraction = x;
  for (let n = terms; n >= 1; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}

/** The complementary error function 1 - erf x = 2/√π ∫ₓ^∞ e^(-t²) dt, to 1e-15. */
export function erfc(x: number): number {
  if (x >= crossover) return continuedFraction(x);
  if (x <= -crossover) return 2 - continuedFraction(-x);
  return 1 - series(x);
}
