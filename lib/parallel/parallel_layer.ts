import { inspect } from "node:util";
import type { Device } from "../core/device/device.js";
import { checkMadeBy } from "../core/device/own_class.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { cannotCombine, invalidArgument, unexpected } from "../core/errors.js";
import { type Fields, list, object, type Read, type Reader } from "../core/input/options.js";
import { dtypes, type FloatDType } from "../core/tensors/dtype.js";
import { Made } from "../core/tensors/made.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { type ForwardOptions, forwardFields } from "../layer/forward/forward_options.js";
import { checkNorm, normalised, residualOf } from "../layer/forward/norm_and_residual.js";
import { checkRouting } from "../layer/router/given_routing.js";
import { checkRouterInput, checkTokens, type Tokens } from "../layer/router/tokens.js";
import { MoeLayer } from "../moe_layer.js";
import { checkTensor } from "../operators/check.js";
import { combine } from "../operators/experts/combine.js";
import type { Routing } from "../operators/routing/gating.js";
import { type BankFacts, bankFacts, checkSameLayer } from "./bank_facts.js";
import { type RoutedTokens, tokensOfBank } from "./dispatch.js";
import { giveMemory, readBits } from "./memory.js";
import { RemoteBank } from "./remote_banks.js";

/** Options of {@link ParallelLayer.forward}. A routing has at most as many choices of a token as the layer has experts. */
export interface ParallelForwardOptions<D extends FloatDType = FloatDType>
  extends Pick<
    ForwardOptions<D>,
    "routerInput" | "tokenIds" | "expertIds" | "logits" | "routing" | "norm" | "residual" | "out"
  > {
  /** Stops the waiting for the other banks, whose servers compute their shares all the same. */
  signal?: AbortSignal | undefined;
}

const { routerInput, tokenIds, expertIds, logits, routing, norm, residual, signal, out } = forwardFields;
const forwardOptions = object(
  {
    routerInput,
    tokenIds,
    expertIds,
    logits,
    routing,
    norm,
    residual,
    signal,
    out,
  } satisfies Fields<ParallelForwardOptions>,
  "{ out }",
);

type Options = Read<typeof forwardOptions>;

const remoteBank: Reader<RemoteBank> = (value, name) => {
  if (value instanceof RemoteBank) return value;
  throw invalidArgument(name, "a RemoteBank, as banks.bank(layer) makes", value);
};

/** A bank of another process, and the place of its share in the sum of a token. */
interface FarBank {
  readonly remote: RemoteBank;
  readonly slot: number;
}

/**
 * A layer whose experts are spread over processes or machines: a bank here, and others at servers of {@link serveBanks}. The
 * layer here routes all tokens. Each server gets the tokens that chose its experts, once and with their routing, and returns
 * its share of their outputs, while the bank here computes its own.
 *
 * A token's shares have the dtype of x. They are added in float32, in the order of the banks' experts, and rounded once. So
 * with the same banks the bits are the same on every run, whatever the other tokens of the call, and whichever server
 * answers first. They are not those of one layer with all experts, which adds in another order: float32 outputs differ by that
 * rounding, 16-bit ones also by that of each share.
 */
export class ParallelLayer extends ThreadBound {
  readonly #near: MoeLayer;
  readonly #nearSlot: number;
  readonly #far: readonly FarBank[];

  /** @internal Use {@link ParallelLayer.create}. */
  constructor(near: MoeLayer, nearSlot: number, far: readonly FarBank[]) {
    super();
    checkMadeBy("ParallelLayer.create(near, far)", ParallelLayer, near instanceof MoeLayer);
    this.#near = near;
    this.#nearSlot = nearSlot;
    this.#far = far;
  }

  /**
   * Makes a layer of banks that together hold each expert once. They stay the caller's: nothing of it is to be disposed of.
   * @param near the bank of this process, on any device.
   * @param far the banks of others. Their formats and devices may differ from that of `near`.
   * @throws INVALID_ARGUMENT if the banks are not of one layer: another formula or router, experts that are missing or there
   * twice; DISPOSED.
   */
  static async create(near: MoeLayer, far: readonly RemoteBank[]): Promise<ParallelLayer> {
    if (!(near instanceof MoeLayer)) throw invalidArgument("near", "a MoeLayer", near);
    const remotes = list(remoteBank)(far, "far");
    const here = await bankFacts(near);
    remotes.forEach(({ facts }, index) => {
      checkSameLayer(`far[${index}]`, here, facts);
    });
    const banks: { readonly facts: BankFacts; readonly remote?: RemoteBank }[] = [
      { facts: here },
      ...remotes.map((remote) => ({ facts: remote.facts, remote })),
    ];
    banks.sort((a, b) => a.facts.first - b.facts.first);
    checkWhole(banks.map(({ facts }) => facts));
    const slots = banks.map(({ remote }, slot) => ({ remote, slot }));
    const others = slots.filter((each): each is FarBank => each.remote !== undefined);
    return new ParallelLayer(
      near,
      slots.findIndex(({ remote }) => remote === undefined),
      others,
    );
  }

  /** Where tokens and outputs are. */
  get device(): Device {
    return this.#near.device;
  }

  /** How many banks it has, that of this process included. */
  get banks(): number {
    return 1 + this.#far.length;
  }

  /**
   * The layer's output for tokens x [T, H] or [B, S, H], with x's shape and dtype; resolves when the shares of the other banks have
   * come and the sum is enqueued. Calls may overlap. Do not write to what it reads, nor dispose of it, before the promise settles.
   * @throws the errors of {@link MoeLayer.forward}; CONNECTION_FAILED if a server cannot be reached or ends, after which the
   * call can be repeated; errors of a server, with its address; the signal's reason.
   */
  async forward<D extends FloatDType>(x: Tensor<D>, options: ParallelForwardOptions<D> = {}): Promise<Tensor<D>> {
    const given = forwardOptions(options, "options");
    given.signal?.throwIfAborted();
    using made = new Made();
    const { source, routing, residual, out } = this.#inputs(x, given, made);
    const { device, banks } = this;
    const [count, hiddenSize] = source.shape as [number, number];
    // The shares of each bank are in a block of T rows.
    const rows = made.own(device.allocate([banks * count, hiddenSize], x.dtype));
    const [tokens, weights, ids] = await Promise.all([
      readBits(source),
      readBits(routing.weights),
      readBits(routing.ids),
    ]);
    const types = { dtype: x.dtype, weightDType: routing.weights.dtype, choices: routing.ids.shape[1] };
    // The others get their tokens first: their way is longer by what goes over the connections.
    const waiting = this.#shares({ ...types, tokens, weights, ids } as RoutedTokens, rows, given.signal);
    waiting.catch(() => {}); // whatever the next lines throw
    for (const bits of [tokens, weights, ids]) giveMemory(bits);
    using own = rows.rows(this.#nearSlot * count, (this.#nearSlot + 1) * count);
    this.#near.forward(source, { routing, out: own });
    const rowOfSlot = await waiting;
    const slots = made.own(device.tensor(rowOfSlot, [count, banks]));
    const ones = made.own(device.tensor(new Float32Array(slots.size).fill(1), slots.shape));
    const sum = combine(rows, slots, ones, { residual, out }) as Tensor<D>;
    if (given.out !== undefined) return given.out as Tensor<D>;
    return x.rank === 2 ? sum : made.own(sum).reshape(x.shape);
  }

  /** What a forward reads and where it writes, as matrices; all arguments are checked. */
  #inputs(x: Tensor<FloatDType>, { routing, norm, ...given }: Options, made: Made) {
    const { device, description } = this.#near;
    const { hiddenSize, numExperts } = description;
    const tokens = checkTokens(this.#near, x);
    if (given.out !== undefined) checkTensor("out", given.out, [x.dtype], x.shape, device);
    if (norm !== undefined) checkNorm(norm, x);
    const residual = residualOf(given.residual, x);
    const matrix = (each: Tensor<FloatDType>) => made.own(each.reshape([tokens.count, hiddenSize]));
    const source = norm === undefined ? x : made.own(normalised(x, norm));
    const chosen = routing === undefined ? this.#route(source, given, made) : this.#given(routing, given, tokens);
    const choices = chosen.ids.shape[1] as number;
    if (choices > numExperts) throw unexpected("routing", `at most ${numExperts} choices of a token`, `${choices}`);
    return {
      source: matrix(source),
      routing: chosen,
      residual: residual && matrix(residual),
      out: given.out && matrix(given.out),
    };
  }

  #route(
    x: Tensor<FloatDType>,
    { routerInput, tokenIds, expertIds, logits }: Omit<Options, "routing" | "norm">,
    made: Made,
  ): Routing {
    checkRouterInput(this.#near, routerInput, x, logits && "logits");
    const routing = this.#near.route(routerInput ?? x, { tokenIds, expertIds, logits });
    made.own(routing.ids);
    made.own(routing.weights);
    return routing;
  }

  /** A routing that was given, instead of everything that would lead to one. */
  #given(routing: Routing, others: Omit<Options, "routing" | "norm">, tokens: Tokens): Routing {
    for (const name of ["routerInput", "tokenIds", "expertIds", "logits"] as const) {
      if (others[name] !== undefined) throw cannotCombine(name, "routing");
    }
    checkRouting(this.#near, routing, tokens);
    return routing;
  }

  /**
   * Writes the shares of the other banks to their blocks of rows.
   * @returns the rows of each token's shares [T, banks]; -1 for none.
   */
  async #shares(routed: RoutedTokens, rows: Tensor<FloatDType>, signal: AbortSignal | undefined): Promise<Int32Array> {
    const { banks } = this;
    const count = routed.ids.length / routed.choices;
    const rowOfSlot = new Int32Array(count * banks).fill(-1);
    const use = (slot: number, tokens: readonly number[]) => {
      tokens.forEach((token, row) => {
        rowOfSlot[token * banks + slot] = slot * count + row;
      });
    };
    use(
      this.#nearSlot,
      Array.from({ length: count }, (_, token) => token),
    );
    const requests = this.#far.flatMap(({ remote, slot }) => {
      const tokens = tokensOfBank(remote.facts, routed);
      use(slot, tokens);
      const begins = Array.from(
        { length: Math.ceil(tokens.length / remote.maxTokens) },
        (_, i) => i * remote.maxTokens,
      );
      return begins.map(async (begin) => {
        const part = tokens.slice(begin, begin + remote.maxTokens);
        const share = await remote.share(routed, part, signal);
        const first = slot * count + begin;
        using target = rows.rows(first, first + part.length);
        const { raw } = dtypes[routed.dtype];
        target.write(new raw(share.buffer as ArrayBuffer, share.byteOffset, target.size));
        giveMemory(share);
      });
    });
    // All must have settled before the rows can be freed.
    const failed = (await Promise.allSettled(requests)).find((each) => each.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return rowOfSlot;
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const others = this.#far.map(({ remote }) => remote.address).join(", ");
    return `ParallelLayer of ${inspect(this.#near)} and ${others || "no other bank"}`;
  }
}

/** Checks that banks, in order of their experts, have each expert of a layer once. */
function checkWhole(banks: readonly BankFacts[]): void {
  const { numExperts, identityExperts } = banks[0] as BankFacts;
  const total = numExperts - identityExperts;
  let next = 0;
  for (const { first, count } of [...banks, { first: total, count: 0 }]) {
    const expected = `banks that have each of ${total} experts once`;
    if (first > next) throw unexpected("far", expected, `no bank with expert ${next}`);
    if (first < next) throw unexpected("far", expected, `two banks with expert ${first}`);
    next = first + count;
  }
}
