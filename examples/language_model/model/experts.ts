import type { Device, FloatDType, ForwardOptions, MoeModel, Tensor, TokenFormat, WeightFormatName } from "moe-kernels";
import { ParallelLayer, type RemoteBanks } from "moe-kernels/parallel";

/** A layer's experts: all in this process, or some in others. */
export interface Experts extends Disposable {
  forward<D extends FloatDType>(
    x: Tensor<D>,
    options: Pick<ForwardOptions, "norm" | "residual">,
  ): Tensor<D> | Promise<Tensor<D>>;
}

export interface ExpertsOptions {
  /** The format of the experts; default that of the files. */
  readonly dtype?: WeightFormatName | undefined;
  /** What products with quantised weights round their rows to; default `none`. */
  readonly tokenFormat?: TokenFormat | undefined;
  /** Servers with some of the experts of every layer, which are then not loaded; default none. */
  readonly servers?: readonly RemoteBanks[] | undefined;
}

/** @throws RangeError if the servers leave no range of experts, or several. */
export async function loadExperts(
  model: MoeModel,
  layer: number,
  device: Device,
  { dtype, tokenFormat, servers = [] }: ExpertsOptions,
): Promise<Experts> {
  if (servers.length === 0) return await model.load(layer, { device, dtype, tokenFormat });
  const far = servers.map((server) => server.bank(layer));
  const { numExperts, identityExperts = 0 } = model.layer(layer).config;
  const all = Array.from({ length: numExperts - identityExperts }, (_, expert) => expert);
  const rest = all.filter((expert) => !far.some(({ first, count }) => expert >= first && expert < first + count));
  const [first] = rest;
  if (first === undefined || rest[rest.length - 1] !== first + rest.length - 1) {
    throw new RangeError(
      `--servers: expected servers that leave one range of the ${all.length} experts of layer ${layer}`,
    );
  }
  const near = await model.load(layer, { device, dtype, tokenFormat, bank: { first, count: rest.length } });
  try {
    const layerOfAll = await ParallelLayer.create(near, far);
    return { forward: (x, options) => layerOfAll.forward(x, options), [Symbol.dispose]: () => near.dispose() };
  } catch (error) {
    near.dispose();
    throw error;
  }
}
