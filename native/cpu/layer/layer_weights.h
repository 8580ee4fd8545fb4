// A layer's weights as the CPU reads them.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cpu/gemm/panels.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

class LayerWeights {
 public:
  LayerWeights(const LayerDescription& description, Context& context);

  // Allocates memory for weights that will be set.
  Status allocate();
  // Reads the parts() of another layer in place; these weights cannot be set.
  Status borrow(const std::vector<WeightPart>& parts);
  // Checks the file that the weights are in, if any: its size, and the values if they have not been checked yet. The
  // matrices are checked before products with them.
  Status check_file();
  // Fails if weights that were read were not in the file any more.
  Status check_read() const { return file_ == nullptr ? Status() : file_->check_read(); }

  Status set_router(const WeightView& weight, const MatrixView& bias);
  Status set_selection_bias(const MatrixView& bias);
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias);
  Status set_expert(int64_t expert, const ExpertViews& weights);

  // See Layer::copy_weight().
  Status copy(WeightRole role, int64_t expert, const TensorView& target) const;
  // See WeightCopies.
  Status copy_selection_bias(const TensorView& target) const { return copy_values(selection_bias, 0, target); }

  // Those of the bank's experts, in the order of their products.
  std::vector<const CpuPackedExperts*> bank_matrices() const;
  // One expert's matrix within the experts of a product; of a gated product, the gate's or, if `up`, the other half's.
  struct Matrix {
    const CpuPackedExperts& packed;
    int64_t expert;
    bool up;
  };
  Matrix matrix(WeightRole role, int64_t expert) const;
  // Null if the weights are not in a file with checksums.
  const MappedFile* file() const { return file_; }

  // Bytes so far.
  size_t bytes() const { return bytes_; }
  std::vector<WeightPart> parts() const;
  // Of each expert of each matrix, then of each part of values, in the order of the parts.
  std::vector<uint64_t> checksums() const;

  // Projections of tokens, as packed weights of a single expert; shared_gate is null if the layer has no such gate.
  std::unique_ptr<CpuPackedExperts> router, shared_gate;
  // The matrices of a group of experts. If gate and up are apart, `gate` holds the gate and `gate_up` only the up;
  // otherwise `gate` is null. `multiplier` is null if the layer has none.
  struct Group {
    ExpertRange experts;
    std::unique_ptr<CpuPackedExperts> gate, gate_up, multiplier, down;
  };
  std::vector<Group> groups;
  // Float32 values of all experts; empty if the layer has no such bias.
  Buffer router_bias, selection_bias, shared_gate_bias, gate_up_bias, down_bias;

 private:
  struct PackedPart {
    std::string name;
    std::unique_ptr<CpuPackedExperts>* packed;
    ExpertProduct weights;
  };
  // Values of four bytes.
  struct ValuesPart {
    std::string name;
    Buffer* values;
    int64_t size;

    int64_t bytes() const { return round_up(size * int64_t{sizeof(float)}, kAlignment); }
  };

  void add_group(const ExpertGroup& group, Group& weights);
  const Group& group_of(int64_t expert) const;
  void add_inputs();
  size_t checksum_count() const;
  // Has all parts that are there checked against `sums`.
  Status check_against(const WeightPart& sums);
  Status check_settable() const;
  Status copy_values(const Buffer& values, int64_t at, const TensorView& target) const;
  Status keep_bias(Buffer& values, const MatrixView& bias, int64_t at);

  LayerDescription description_;
  // The parts that a layer of this description must have, and those that it may have.
  std::vector<PackedPart> packed_parts_;
  std::vector<ValuesPart> values_parts_;
  Context& context_;
  bool borrowed_ = false;
  MappedFile* file_ = nullptr;
  // Of the matrices, by the order of the parts, and of the values.
  std::deque<CheckedPart> checked_matrices_, checked_values_;
  // Other threads than the stream's read it.
  std::atomic<size_t> bytes_ = 0;
};

// Null if the layer has no such bias.
inline const float* floats(const Buffer& bias) { return reinterpret_cast<const float*>(bias.data()); }

}  // namespace moe::cpu
