import { capacityCases } from "./capacity.js";
import { expertsCases } from "./experts.js";
import { formatsCases } from "./formats.js";
import { noiseCases } from "./noise.js";
import type { OperatorCase } from "./operator_case.js";
import { optimizersCases } from "./optimizers.js";
import { productCases } from "./products.js";
import { routingCases } from "./routing.js";
import { statisticsCases } from "./statistics.js";

/** All operators, those of a layer's forward first. */
export const operatorCases: readonly OperatorCase[] = [
  ...routingCases,
  ...capacityCases,
  ...productCases,
  ...expertsCases,
  ...formatsCases,
  ...statisticsCases,
  ...noiseCases,
  ...optimizersCases,
];

/** What can be timed: a whole layer, and the cases of all operators. */
export const caseNames: readonly string[] = ["layer", ...operatorCases.map(({ name }) => name)];

/** Whether a case is one that these texts select: those whose names contain one of them, in letters of any case. */
export function wantedCases(parts: readonly string[]): (name: string) => boolean {
  const wanted = parts.map((part) => part.toLowerCase());
  return (name) => wanted.some((part) => name.toLowerCase().includes(part));
}
