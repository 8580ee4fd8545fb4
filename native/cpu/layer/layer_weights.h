// A layer's weights as the CPU reads them.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "cpu/gemm/panels.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

class LayerWeights {
 public:
  LayerWeights(const LayerDescription& description, Context& context) : description_(description), context_(context) {}

  // Allocates memory for weights that will be set.
  Status allocate();
  // Reads the parts() of another layer in place; these weights cannot be set.
  Status borrow(const std::vector<WeightPart>& parts);
  // Checks the file that the weights are in, if any: its size, and the biases if they have not been checked yet. The
  // matrices are checked before products with them.
  Status check_file();

  Status set_router(const WeightView& weight, const MatrixView& bias);
  Status set_selection_bias(const MatrixView& bias);
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias);
  Status set_expert(int64_t expert, const ExpertViews& weights);

  // Bytes so far.
  size_t bytes() const { return bytes_; }
  std::vector<WeightPart> parts() const;
  // Of each expert of each matrix, then of each bias, in the order of the parts.
  std::vector<uint64_t> checksums() const;

  // Projections of tokens, as packed weights of a single expert; shared_gate is null if the layer has no such gate.
  std::unique_ptr<CpuPackedExperts> router, shared_gate;
  // The matrices of all experts. If gate and up have different formats, `gate` holds the gate and `gate_up` only the
  // up; otherwise `gate` is null. `factor` is null if the layer has none.
  std::unique_ptr<CpuPackedExperts> gate, gate_up, factor, down;
  // Float32 values; empty if the layer has no such bias.
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

  // The parts that a layer of this description must have, and those that it may have.
  std::vector<PackedPart> packed_parts() const;
  std::vector<BiasPart> bias_parts() const;
  size_t checksum_count() const;
  // Has all parts that are there checked against `sums`.
  Status check_against(const WeightPart& sums);
  Status check_settable() const;
  Status keep_bias(Buffer LayerWeights::*values, const MatrixView& bias, int64_t at);

  LayerDescription description_;
  Context& context_;
  bool borrowed_ = false;
  // Null if the weights are not in a file with checksums.
  MappedFile* file_ = nullptr;
  // Of the matrices, by the order of the parts, and of the biases.
  std::deque<CheckedPart> checked_matrices_, checked_biases_;
  // Other threads than the stream's read it.
  std::atomic<size_t> bytes_ = 0;
};

// Null if the layer has no such bias.
inline const float* floats(const Buffer& bias) { return reinterpret_cast<const float*>(bias.data()); }

}  // namespace moe::cpu
