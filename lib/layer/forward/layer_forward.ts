import { cannotCombine, requires } from "../../core/errors.js";
import type { Read } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { Outputs } from "../../operators/outputs.js";
import type { Routing } from "../../operators/routing/gating.js";
import { savedForward } from "../backward/saved_forward.js";
import type { DeviceLayer } from "../device_layer.js";
import type { LayerParts } from "../layer_parts.js";
import { checkExpertIds, checkLogits, checkRouting } from "../router/given_routing.js";
import { routingViews } from "../router/routing_views.js";
import { ownRouting } from "../router/stages.js";
import { tokenIdsOnDevice } from "../router/token_ids.js";
import { checkRouterInput, readFrom, type Tokens, withGiven, withMatrix } from "../router/tokens.js";
import { checkTraining } from "../router/training.js";
import { type ForwardResult, type forwardOptions, forwardResult } from "./forward_options.js";
import { checkNorm, normalised, residualOf } from "./norm_and_residual.js";

type Options = Read<typeof forwardOptions>;

/** A layer's forward for tokens x that were checked: y alone or, with `save` or `want`, in an object. */
export function layerForward<D extends FloatDType>(
  parts: LayerParts,
  x: Tensor<D>,
  checked: Tokens,
  options: Options,
): Tensor<D> | ForwardResult<D> {
  const { device, onDevice, router } = parts;
  const { routing, expertIds, logits: givenLogits, training, routerInput, save, norm, want } = options;
  const wantsRouting = want?.includes("routing") ?? false;
  const wantsLogits = want?.includes("logits") ?? false;
  checkOptions(onDevice, x, checked, options, wantsLogits);
  const residual = residualOf(options.residual, x);
  using ids = tokenIdsOnDevice(onDevice, options.tokenIds, x.shape, routing ? "routing" : expertIds && "expertIds");
  const tokens = withGiven(checked, { ids, expertIds, logits: givenLogits });
  const noise = [training?.noise, training?.groupNoise];
  const given = [routerInput, ids, expertIds, givenLogits, routing?.ids, routing?.weights];
  const inputs = [x, norm?.weight, residual, ...given, ...noise];
  using outputs = new Outputs(device, inputs);
  const y = outputs.next("out", options.out, x.shape, x.dtype);
  using normed = norm && normalised(x, norm);
  const source = normed ?? x;
  const read = routerInput ?? source;
  const ownRouting = routing === undefined && expertIds === undefined && training === undefined;
  const fused = !save && ownRouting && router.fused;
  let logits: Tensor<"f32"> | undefined;
  if (wantsLogits) {
    logits =
      fused && givenLogits === undefined
        ? router.emptyLogits(tokens)
        : withMatrix(read, (input) => router.logits(input, readFrom(tokens, read), "experts"));
    outputs.own(logits);
  }
  if (save) {
    const kept = { recompute: options.recompute, offload: options.offload };
    const pass = { x: source, tokensGiven: x, routerInput, norm, residual, y, tokens, routing, training, ...kept };
    const state = outputs.own(savedForward(parts, pass));
    return outputs.returned(forwardResult(y, logits, wantsRouting ? state.routing() : undefined, state));
  }
  const compute = (added?: TensorHandle) =>
    withMatrix(source, (input) =>
      withMatrix(y, (target) => {
        const pass = { x: input, y: target, residual: added, tokens, wantsRouting };
        return fused
          ? fusedForward(parts, pass, logits, outputs)
          : composedForward(parts, pass, read, options, outputs);
      }),
    );
  const used = residual === undefined ? compute() : withMatrix(residual, compute);
  return outputs.returned(want === undefined ? y : forwardResult(y, logits, used));
}

/** Refuses options that do not go together, or not with this layer or these tokens. */
function checkOptions(
  layer: DeviceLayer,
  x: Tensor<FloatDType>,
  tokens: Tokens,
  given: Options,
  logits: boolean,
): void {
  const { routing, expertIds, logits: givenLogits, training, routerInput, save, recompute, offload, norm } = given;
  if (recompute && !save) throw requires("recompute", "save");
  if (offload && !save) throw requires("offload", "save");
  if (routing !== undefined) checkRouting(layer, routing, tokens);
  if (expertIds !== undefined) checkExpertIds(layer, expertIds, tokens, routing);
  if (givenLogits !== undefined) checkLogits(layer, givenLogits, tokens, { routing, routerInput, training, save });
  if (training !== undefined) {
    checkTraining(layer, training, tokens);
    if (routing !== undefined) throw cannotCombine("training", "routing");
  }
  checkRouterInput(layer, routerInput, x, givenLogits ? "logits" : routing && !logits ? "routing" : undefined);
  if (norm !== undefined) checkNorm(norm, x);
}

/** What both kinds of forward read and write; x and y are matrices. */
interface Pass {
  readonly x: TensorHandle;
  readonly y: TensorHandle;
  readonly residual: TensorHandle | undefined;
  readonly tokens: Tokens;
  readonly wantsRouting: boolean;
}

/** The device's forward, which does the routing too. Returns that if it is wanted. */
function fusedForward(
  { onDevice, router }: LayerParts,
  { x, y, residual, tokens, wantsRouting }: Pass,
  logits: Tensor<"f32"> | undefined,
  made: Made,
): Routing | undefined {
  const routing = wantsRouting ? ownRouting(made, router.emptyRouting(tokens)) : undefined;
  const scores = tokens.logits ?? logits;
  onDevice.forward(x, y, residual, routing, scores && { tensor: scores, given: tokens.logits !== undefined });
  return routing;
}

/** A routing, given or by the router from what it reads, and then the experts. Returns the routing if it is wanted. */
function composedForward(
  { router, bank }: LayerParts,
  { x, y, residual, tokens, wantsRouting }: Pass,
  read: Tensor<FloatDType>,
  { routing: given, training }: Options,
  made: Made,
): Routing | undefined {
  const route = (input: TensorHandle) => ownRouting(made, router.route(input, readFrom(tokens, read), training));
  const routing = given ?? withMatrix(read, route);
  const maxChoices = given === undefined ? router.mostChoices(tokens) : -1;
  bank.forward({ x, y, tokens, routing, maxChoices, residual })?.dispose();
  if (wantsRouting) return given === undefined ? routing : routingViews(given);
  if (given === undefined) disposeRouting(routing);
  return undefined;
}

function disposeRouting({ ids, weights }: Routing): void {
  ids.dispose();
  weights.dispose();
}
