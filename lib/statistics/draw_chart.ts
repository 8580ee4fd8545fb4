import { MoeError } from "../core/errors.js";

// Charts as SVG, by packages that are not installed with this one: npm install vega@6 vega-lite@6.

/** The parts of vega and vega-lite used here. Their own types need a browser's. */
interface Vega {
  parse(specification: object): object;
  View: new (runtime: object, options: object) => { toSVG(): Promise<string>; finalize(): void };
}
interface VegaLite {
  compile(specification: object): { spec: object };
}

/**
 * A Vega-Lite specification as SVG.
 * @param user what draws it, for the error.
 * @throws UNSUPPORTED_OPERATION without vega and vega-lite.
 */
export async function drawChart(specification: object, user: string): Promise<string> {
  const [{ parse, View }, { compile }] = await loadVega(user);
  const view = new View(parse(compile(specification).spec), { renderer: "none" });
  try {
    const svg = await view.toSVG();
    // Avoids seams between the cells of heat maps.
    return svg.replace(">", "><style>.mark-rect path { shape-rendering: crispEdges; }</style>");
  } finally {
    view.finalize();
  }
}

/** Loads what {@link drawChart} needs; throws as it does. */
export async function loadVega(user: string): Promise<[Vega, VegaLite]> {
  return [await load<Vega>("vega", user), await load<VegaLite>("vega-lite", user)];
}

async function load<Module>(name: string, user: string): Promise<Module> {
  try {
    return await import(name);
  } catch (cause) {
    const message =
      `${user}: expected the package ${name}, which draws the charts, to be installed; ` +
      "run npm install vega@6 vega-lite@6";
    throw new MoeError("UNSUPPORTED_OPERATION", message, { cause });
  }
}
