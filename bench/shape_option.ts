import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { choiceOption, integerOption, UsageError } from "#lib/terminal/option_values.js";
import { shapes } from "#lib/testing/shapes.js";

/** A layer to time, and the name for its results. */
export interface NamedShape {
  readonly name: string;
  readonly config: MoeLayerConfig;
}

/** The values of --shape, for the help. */
export const shapeNames = `${Object.keys(shapes).join(", ")} or HxIxExk, such as 2048x768x128x8`;

/** The shape with that name, or with the sizes HxIxExk and a normalised softmax. */
export function shapeOption(text: string): NamedShape {
  if (!/^\d+(x\d+)*$/.test(text)) {
    const name = choiceOption("shape", text, Object.keys(shapes));
    return { name, config: shapes[name] as MoeLayerConfig };
  }
  const sizes = text.split("x");
  if (sizes.length !== 4) throw new UsageError(`--shape: expected four sizes HxIxExk, got "${text}"`);
  const [hiddenSize, intermediateSize, numExperts] = sizes.map((size) => integerOption("shape", size, 1)) as [
    number,
    number,
    number,
  ];
  const topK = integerOption("shape", sizes[3] as string, 1, numExperts);
  return { name: text, config: { hiddenSize, intermediateSize, numExperts, topK, normalize: true } };
}
