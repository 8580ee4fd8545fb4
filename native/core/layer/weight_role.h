// The weights of a layer by what they do in it; lib/core/layer/weight_role.ts is the same list.
#pragma once

#include "core/enum.h"
#include "core/layer/description.h"

namespace moe {

MOE_ENUM(WeightRole, router, routerBias, sharedGate, sharedGateBias, gate, up, multiplier, down, gateBias, upBias,
         downBias)

constexpr bool is_bias(WeightRole role) {
  return role == WeightRole::routerBias || role == WeightRole::sharedGateBias || role >= WeightRole::gateBias;
}

// The matrix whose outputs a bias is added to; a matrix itself.
constexpr WeightRole matrix_of(WeightRole role) {
  switch (role) {
    case WeightRole::routerBias: return WeightRole::router;
    case WeightRole::sharedGateBias: return WeightRole::sharedGate;
    case WeightRole::gateBias: return WeightRole::gate;
    case WeightRole::upBias: return WeightRole::up;
    case WeightRole::downBias: return WeightRole::down;
    default: return role;
  }
}

// Rows and columns of a weight, or of one expert's; a bias is one row. No rows if such a layer does not have it.
struct WeightSize {
  int64_t rows = 0, columns = 0;
};

inline WeightSize size_of_weight(const LayerDescription& layer, WeightRole role) {
  const int64_t gated = is_gated(layer.activation) ? 1 : 0, gate = layer.shared_gate_rows() > 0 ? 1 : 0;
  switch (role) {
    case WeightRole::router: return {layer.experts, layer.hidden};
    case WeightRole::routerBias: return {1, layer.experts};
    case WeightRole::sharedGate: return {layer.shared_gate_rows(), layer.hidden};
    case WeightRole::sharedGateBias: return {gate, layer.shared_gate_rows()};
    case WeightRole::gate: return {gated * layer.intermediate, layer.hidden};
    case WeightRole::up: return {layer.intermediate, layer.hidden};
    case WeightRole::multiplier: return {layer.multiplier ? layer.intermediate : 0, layer.hidden};
    case WeightRole::down: return {layer.hidden, layer.intermediate};
    case WeightRole::gateBias: return {gated, layer.intermediate};
    case WeightRole::upBias: return {1, layer.intermediate};
    case WeightRole::downBias: return {1, layer.hidden};
  }
  return {};
}

// The format of a matrix, or of the expert's; null for a bias, and if the layer has no such expert.
inline const WeightFormat* format_of_weight(const LayerDescription& layer, WeightRole role, int64_t expert) {
  if (role == WeightRole::router) return layer.formats.router;
  if (role == WeightRole::sharedGate) return layer.formats.shared_gate;
  for (const ExpertGroup& group : layer.groups()) {
    if (!group.experts.contains(expert)) continue;
    switch (role) {
      case WeightRole::gate: return group.formats.gate;
      case WeightRole::up: return group.formats.up;
      case WeightRole::multiplier: return group.formats.multiplier;
      case WeightRole::down: return group.formats.down;
      default: break;
    }
  }
  return nullptr;
}

}  // namespace moe
