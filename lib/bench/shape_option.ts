import type { MoeLayerConfig } from "../layer/description/config.js";
import { choiceOption, integerOption, UsageError } from "../terminal/option_values.js";
import { shapes } from "../testing/shapes.js";

/** What a layer computes, and the name for its results. */
export interface NamedShape {
  readonly name: string;
  readonly config: MoeLayerConfig;
}

/** The values of --shape, for the help. */
export const shapeNames = `${Object.keys(shapes).join(", ")} or H,I,E,k, such as 2048,768,128,8`;

/** What the sizes are called in a configuration, and what is typed. */
export const shapeParameters = { hiddenSize: "--shape", intermediateSize: "--shape", numExperts: "--shape" } as const;

/** The shapes of a list of names and sizes: four numbers are one shape. Sizes may also stand as HxIxExk. */
export function shapeOptions(entries: readonly string[]): NamedShape[] {
  const named: NamedShape[] = [];
  for (let index = 0; index < entries.length; index++) {
    if (!/^\d+$/.test(entries[index] as string)) {
      named.push(shapeOption(entries[index] as string));
      continue;
    }
    const sizes = entries.slice(index, index + 4);
    named.push(shapeOption(sizes.join("x")));
    index += 3;
  }
  return named;
}

/** The shape with that name, or with the sizes H,I,E,k or HxIxExk and a normalised softmax. */
export function shapeOption(value: string): NamedShape {
  const text = value.replaceAll(",", "x");
  if (!/^\d+(x\d+)*$/.test(text)) {
    const name = choiceOption("shape", value, Object.keys(shapes), " or sizes H,I,E,k");
    return { name, config: shapes[name] as MoeLayerConfig };
  }
  const sizes = text.split("x");
  if (sizes.length !== 4) throw new UsageError(`--shape: expected four sizes H,I,E,k, got "${sizes.join()}"`);
  const [hiddenSize, intermediateSize, numExperts] = ["H", "I", "E"].map((letter, index) =>
    integerOption(`shape: ${letter}`, sizes[index] as string, 1),
  ) as [number, number, number];
  const topK = integerOption("shape: k", sizes[3] as string, 1, numExperts);
  return { name: text, config: { hiddenSize, intermediateSize, numExperts, topK, normalize: true } };
}
