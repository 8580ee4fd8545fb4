#include "binding/layer_description.h"

#include <optional>

#include "binding/arguments.h"
#include "binding/field_reader.h"
#include "core/layer/check.h"

namespace moe::binding {

static std::optional<ExpertFormats> shared_formats(Napi::Env env, Napi::Value given) {
  if (!given.IsObject()) return std::nullopt;
  const Napi::Object formats = given.As<Napi::Object>();
  return ExpertFormats{.gate = weight_format(env, formats.Get("gate")),
                       .up = weight_format(env, formats.Get("up")),
                       .multiplier = weight_format(env, formats.Get("multiplier")),
                       .down = weight_format(env, formats.Get("down"))};
}

LayerDescription layer_description(Napi::Env env, Napi::Object given) {
  LayerDescription description;
  description.hidden = integer(env, given.Get("hiddenSize"), "hiddenSize");
  description.intermediate = integer(env, given.Get("intermediateSize"), "intermediateSize");
  description.experts = integer(env, given.Get("numExperts"), "numExperts");
  description.shared_experts = integer(env, given.Get("sharedExperts"), "sharedExperts");
  description.shared_gate = choice<SharedGate>(env, given.Get("sharedGate"), "sharedGate");
  description.activation = choice<Activation>(env, given.Get("activation"), "activation");
  description.clamp = read_fields<Clamp>(given.Get("clamp"), "clamp");
  description.shared_clamp = read_fields<Clamp>(given.Get("sharedClamp"), "sharedClamp");
  description.multiplier = given.Get("multiplier").ToBoolean();
  description.output_activation = choice<OutputActivation>(env, given.Get("outputActivation"), "outputActivation");
  description.weight_on = choice<WeightPlace>(env, given.Get("weightOn"), "weightOn");
  const Napi::Object formats = given.Get("formats").ToObject();
  description.formats = {.router = weight_format(env, formats.Get("router")),
                         .shared_gate = weight_format(env, formats.Get("sharedGate")),
                         .gate = weight_format(env, formats.Get("gate")),
                         .up = weight_format(env, formats.Get("up")),
                         .multiplier = weight_format(env, formats.Get("multiplier")),
                         .down = weight_format(env, formats.Get("down")),
                         .shared = shared_formats(env, formats.Get("shared"))};
  description.separate_gate = given.Get("separateGate").ToBoolean();
  description.bias_dtype = dtype(env, given.Get("biasDType"));
  description.tokens = choice<TokenFormat>(env, given.Get("tokenFormat"), "tokenFormat");
  const Napi::Object bank = given.Get("bank").ToObject();
  description.bank = {integer(env, bank.Get("first"), "first"), integer(env, bank.Get("count"), "count")};
  description.gating = read_fields<GatingRule>(given, "layer");
  check(env, check_layer(description));
  return description;
}

}  // namespace moe::binding
