// A layer's weights as the CPU reads them.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "cpu/gemm/panels.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

class LayerWeights {
 public:
  LayerWeights(const LayerDescription& description, Context& context) : description_(description), context_(context) {}

  // Memory for weights that are to be set.
  Status allocate();
  // Over the parts() of others, which are only read; these weights cannot be set.
  Status borrow(const std::vector<WeightPart>& parts);

  Status set_router(const WeightView& weight, const MatrixView& bias);
  Status set_selection_bias(const MatrixView& bias);
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias);
  Status set_expert(int64_t expert, const ExpertViews& weights);

  // Of what is there so far.
  size_t bytes() const { return bytes_; }
  std::vector<WeightPart> parts() const;

  // Projections of tokens, as packed experts of which there is one; null without a gate.
  std::unique_ptr<CpuPackedExperts> router, shared_gate;
  // All experts' matrices. Where gate and up have different formats, `gate` has the one and `gate_up` the other alone;
  // else `gate` is null. `factor` is null where the layer has none.
  std::unique_ptr<CpuPackedExperts> gate, gate_up, factor, down;
  // Float32 values, empty where the layer has no such bias.
  Buffer router_bias, selection_bias, shared_gate_bias, gate_up_bias, down_bias;

 private:
  struct PackedPart {
    const char* name;
    std::unique_ptr<CpuPackedExperts> LayerWeights::*packed;
    ExpertProduct weights;
  };
  struct BiasPart {
    const char* name;
    Buffer LayerWeights::*values;
    int64_t size;

    int64_t bytes() const { return round_up(size * int64_t{sizeof(float)}, kAlignment); }
  };

  // The parts that a layer of this description has, and those that it may have.
  std::vector<PackedPart> packed_parts() const;
  std::vector<BiasPart> bias_parts() const;
  Status check_settable() const;
  Status keep_bias(Buffer LayerWeights::*values, const MatrixView& bias, int64_t at);

  LayerDescription description_;
  Context& context_;
  bool borrowed_ = false;
  // Read by other threads than the stream's.
  std::atomic<size_t> bytes_ = 0;
};

// Null where the layer has no such bias.
inline const float* floats(const Buffer& bias) { return reinterpret_cast<const float*>(bias.data()); }

}  // namespace moe::cpu
