#include "cpu/layer/weight_copies.h"

#include <algorithm>

#include "cpu/gemm/unpack_field.h"

namespace moe::cpu {

Status copy_selection_bias(const LayerWeights& weights, const Kernels& kernels, const TensorView& target) {
  const float* bias = floats(weights.selection_bias);
  if (bias == nullptr)
    std::fill_n(target.as<char>(), target.bytes(), 0);
  else
    kernels.from_f32(target.dtype, bias, target.size(), target.as<char>());
  return {};
}

Status copy_field(const LayerWeights& weights, const Team& team, WeightRole role, int64_t expert, QuantizedField field,
                  const TensorView& target) {
  const auto group = std::find_if(weights.groups.begin(), weights.groups.end(),
                                  [&](const LayerWeights::Group& each) { return each.experts.contains(expert); });
  const int64_t index = expert - group->experts.first;
  const bool joined = group->gate_up->weights().gated();
  switch (role) {
    case WeightRole::gate:
      return unpack_field(joined ? *group->gate_up : *group->gate, index, false, field, team, target);
    case WeightRole::up: return unpack_field(*group->gate_up, index, joined, field, team, target);
    case WeightRole::multiplier: return unpack_field(*group->multiplier, index, false, field, team, target);
    default: return unpack_field(*group->down, index, false, field, team, target);
  }
}

}  // namespace moe::cpu
