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
  const LayerWeights::Matrix of = weights.matrix(role, expert);
  return unpack_field(of.packed, of.expert, of.up, field, team, target);
}

}  // namespace moe::cpu
