import type { ExpertRange } from "../../../lib/core/layer/expert_range.js";
import { Made } from "../../../lib/core/tensors/made.js";
import type { MoeLayerOptions } from "../../../lib/layer/create.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { serveBanks } from "../../../lib/parallel/bank_server.js";
import { ParallelLayer } from "../../../lib/parallel/parallel_layer.js";
import { connectBanks, type RemoteBanks } from "../../../lib/parallel/remote_banks.js";
import { bankOptions } from "../../support/banks.js";

/** A layer of several banks, of which all but one are served over sockets; the servers are in this process. */
export class SplitLayer implements AsyncDisposable {
  readonly layer: ParallelLayer;
  /** In order of their experts. */
  readonly banks: readonly MoeLayer[];
  readonly remotes: readonly RemoteBanks[];
  readonly #closing: AsyncDisposable[];

  private constructor(
    layer: ParallelLayer,
    banks: readonly MoeLayer[],
    remotes: readonly RemoteBanks[],
    closing: AsyncDisposable[],
  ) {
    this.layer = layer;
    this.banks = banks;
    this.remotes = remotes;
    this.#closing = closing;
  }

  /** @param near the number of the bank that is not served. */
  static async make(
    options: MoeLayerOptions,
    ranges: readonly ExpertRange[],
    { near = 0, maxTokens = 4096 } = {},
  ): Promise<SplitLayer> {
    using made = new Made();
    const banks = ranges.map((bank) => made.own(MoeLayer.create(bankOptions(options, bank))));
    const closing: AsyncDisposable[] = [];
    const remotes: RemoteBanks[] = [];
    for (const bank of banks.filter((_, index) => index !== near)) {
      const server = await serveBanks(bank, { maxTokens });
      closing.push(server);
      remotes.push(await connectBanks(server.address));
    }
    // In any order.
    const far = remotes.map((each) => each.bank()).reverse();
    const layer = await ParallelLayer.create(banks[near] as MoeLayer, far);
    return made.returned(new SplitLayer(layer, banks, remotes, closing));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const remote of this.remotes) remote.close();
    for (const server of this.#closing) await server[Symbol.asyncDispose]();
    for (const bank of this.banks) bank.dispose();
  }
}
