#include "cpu/layer/layer_weights.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

// The part with the checksums of the others.
static constexpr const char* kChecksums = "checksums";

std::vector<LayerWeights::PackedPart> LayerWeights::packed_parts() const {
  const LayerDescription& d = description_;
  const int64_t experts = d.all_experts();
  const auto product = [&](int64_t count, int64_t rows, int64_t columns, const WeightFormat* format) {
    return ExpertProduct{.experts = count, .rows = rows, .columns = columns, .format = format};
  };
  ExpertProduct gate_up = product(experts, d.gate_up_rows(), d.hidden, d.formats.up);
  gate_up.activation = d.activation;
  gate_up.clamp = d.clamp;
  std::vector<PackedPart> parts = {
      {"router", &LayerWeights::router, product(1, d.experts, d.hidden, d.formats.router)},
      {"down", &LayerWeights::down, product(experts, d.hidden, d.intermediate, d.formats.down)},
  };
  if (is_gated(d.activation) && d.formats.gate != d.formats.up) {
    gate_up.rows = d.intermediate;
    ExpertProduct gate = gate_up;
    gate.format = d.formats.gate;
    gate.part = ActivationPart::gate;
    gate_up.part = ActivationPart::up;
    parts.push_back({"gate", &LayerWeights::gate, gate});
    parts.push_back({"up", &LayerWeights::gate_up, gate_up});
  } else {
    parts.push_back({"gate_up", &LayerWeights::gate_up, gate_up});
  }
  if (d.factor) {
    parts.push_back({"factor", &LayerWeights::factor, product(experts, d.intermediate, d.hidden, d.formats.factor)});
  }
  if (d.shared_gate != SharedGate::none) {
    parts.push_back(
        {"shared_gate", &LayerWeights::shared_gate, product(1, d.shared_gate_rows(), d.hidden, d.formats.shared_gate)});
  }
  return parts;
}

std::vector<LayerWeights::BiasPart> LayerWeights::bias_parts() const {
  const LayerDescription& d = description_;
  return {
      {"router_bias", &LayerWeights::router_bias, d.experts},
      {"selection_bias", &LayerWeights::selection_bias, d.experts},
      {"shared_gate_bias", &LayerWeights::shared_gate_bias, d.shared_gate_rows()},
      {"gate_up_bias", &LayerWeights::gate_up_bias, d.all_experts() * d.gate_up_rows()},
      {"down_bias", &LayerWeights::down_bias, d.all_experts() * d.hidden},
  };
}

Status LayerWeights::allocate() {
  for (const PackedPart& part : packed_parts()) {
    MOE_TRY(CpuPackedExperts::create(part.weights, context_.kernels, context_.team, context_.poison,
                                     &(this->*part.packed)));
    bytes_ += (this->*part.packed)->bytes();
  }
  return {};
}

Status LayerWeights::borrow(const std::vector<WeightPart>& parts) {
  const auto find = [&parts](const char* name) -> const WeightPart* {
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const WeightPart& p) { return p.name == name; });
    return part == parts.end() ? nullptr : &*part;
  };
  borrowed_ = true;
  size_t known = 0;
  for (const PackedPart& part : packed_parts()) {
    const WeightPart* stored = find(part.name);
    if (stored == nullptr) return {Code::invalid_argument, std::string("stored weights: expected ") + part.name};
    MOE_TRY(CpuPackedExperts::over(*stored, part.weights, context_.kernels, context_.team, &(this->*part.packed)));
    bytes_ += stored->bytes;
    ++known;
  }
  for (const BiasPart& part : bias_parts()) {
    const WeightPart* stored = find(part.name);
    if (stored == nullptr) continue;
    MOE_TRY(borrow_part(*stored, part.bytes(), this->*part.values));
    bytes_ += stored->bytes;
    ++known;
  }
  if (const WeightPart* sums = find(kChecksums)) {
    MOE_TRY(check_against(*sums));
    ++known;
  }
  if (known != parts.size()) return {Code::invalid_argument, "stored weights: expected only the parts of this layer"};
  return {};
}

Status LayerWeights::check_against(const WeightPart& sums) {
  const size_t expected = checksum_count() * sizeof(uint64_t);
  if (sums.file == nullptr || sums.bytes != expected) {
    return {Code::invalid_argument, "stored weights: expected " + std::to_string(expected) + " bytes of checksums in " +
                                        "a file, got " + std::to_string(sums.bytes)};
  }
  file_ = sums.file;
  const uint64_t* next = static_cast<const uint64_t*>(sums.data);
  for (const PackedPart& part : packed_parts()) {
    CpuPackedExperts& packed = *(this->*part.packed);
    const size_t bytes = static_cast<size_t>(packed.layout().expert_bytes());
    checked_matrices_.emplace_back(*file_, part.name, packed.data(), bytes, part.weights.experts, next);
    packed.check_by(&checked_matrices_.back());
    next += part.weights.experts;
  }
  for (const BiasPart& part : bias_parts()) {
    const Buffer& values = this->*part.values;
    if (values.data() == nullptr) continue;
    checked_biases_.emplace_back(*file_, part.name, values.data(), values.bytes(), 1, next);
    ++next;
  }
  return {};
}

Status LayerWeights::check_file() {
  if (file_ == nullptr) return {};
  bool written = false;
  MOE_TRY(file_->check(&written));
  if (written) {
    for (CheckedPart& part : checked_matrices_) part.reset();
    for (CheckedPart& part : checked_biases_) part.reset();
  }
  for (CheckedPart& part : checked_biases_) MOE_TRY(part.check(context_.team, {0}));
  return {};
}

size_t LayerWeights::checksum_count() const {
  int64_t count = 0;
  for (const PackedPart& part : packed_parts()) count += part.weights.experts;
  for (const BiasPart& part : bias_parts()) count += (this->*part.values).data() == nullptr ? 0 : 1;
  // Filled up, so that whatever follows in a file is aligned.
  return static_cast<size_t>(round_up(count, kAlignment / sizeof(uint64_t)));
}

std::vector<uint64_t> LayerWeights::checksums() const {
  std::vector<uint64_t> sums;
  const auto add = [&](const char* data, size_t unit_bytes, int64_t count) {
    std::vector<int32_t> units(static_cast<size_t>(count));
    std::iota(units.begin(), units.end(), 0);
    const std::vector<uint64_t> more = unit_checksums(context_.team, data, unit_bytes, units);
    sums.insert(sums.end(), more.begin(), more.end());
  };
  for (const PackedPart& part : packed_parts()) {
    const CpuPackedExperts& packed = *(this->*part.packed);
    add(packed.data(), static_cast<size_t>(packed.layout().expert_bytes()), part.weights.experts);
  }
  for (const BiasPart& part : bias_parts()) {
    const Buffer& values = this->*part.values;
    if (values.data() != nullptr) add(values.data(), values.bytes(), 1);
  }
  sums.resize(checksum_count());
  return sums;
}

std::vector<WeightPart> LayerWeights::parts() const {
  std::vector<WeightPart> parts;
  for (const PackedPart& part : packed_parts()) {
    const CpuPackedExperts& packed = *(this->*part.packed);
    parts.push_back({part.name, packed.data(), packed.bytes()});
  }
  for (const BiasPart& part : bias_parts()) {
    const Buffer& values = this->*part.values;
    if (values.data() != nullptr) parts.push_back({part.name, values.data(), values.bytes()});
  }
  return parts;
}

Status LayerWeights::check_settable() const {
  if (!borrowed_) return {};
  return {Code::unsupported_operation, "layer: the weights are stored elsewhere and cannot be set"};
}

// Copies a bias into its part, from index `at` on. The first bias creates the part, filled with zeros.
Status LayerWeights::keep_bias(Buffer LayerWeights::*values, const MatrixView& bias, int64_t at) {
  if (bias.absent()) return {};
  Buffer& buffer = this->*values;
  if (buffer.data() == nullptr) {
    const std::vector<BiasPart> parts = bias_parts();
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const BiasPart& p) { return p.values == values; });
    MOE_TRY(buffer.reserve(static_cast<size_t>(part->bytes()), false));
    bytes_ += static_cast<size_t>(part->bytes());
    std::fill_n(buffer.data(), part->bytes(), 0);
  }
  read_row(context_.kernels, bias, 0, 0, bias.columns, reinterpret_cast<float*>(buffer.data()) + at);
  return {};
}

Status LayerWeights::set_router(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(check_settable());
  MOE_TRY(keep_bias(&LayerWeights::router_bias, bias, 0));
  return router->set_expert(0, weight, {});
}

Status LayerWeights::set_selection_bias(const MatrixView& bias) {
  MOE_TRY(check_settable());
  return keep_bias(&LayerWeights::selection_bias, bias, 0);
}

Status LayerWeights::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(check_settable());
  MOE_TRY(keep_bias(&LayerWeights::shared_gate_bias, bias, 0));
  return shared_gate->set_expert(0, weight, {});
}

Status LayerWeights::set_expert(int64_t expert, const ExpertViews& weights) {
  MOE_TRY(check_settable());
  const LayerDescription& d = description_;
  const bool gated = is_gated(d.activation);
  const int64_t rows = d.gate_up_rows();
  if (gated) MOE_TRY(keep_bias(&LayerWeights::gate_up_bias, weights.gate_bias, expert * rows));
  MOE_TRY(keep_bias(&LayerWeights::gate_up_bias, weights.up_bias, (expert + 1) * rows - d.intermediate));
  MOE_TRY(keep_bias(&LayerWeights::down_bias, weights.down_bias, expert * d.hidden));
  if (gate != nullptr) MOE_TRY(gate->set_expert(expert, weights.gate, {}));
  MOE_TRY(gate_up->weights().gated() ? gate_up->set_expert(expert, weights.gate, weights.up)
                                     : gate_up->set_expert(expert, weights.up, {}));
  if (d.factor) MOE_TRY(factor->set_expert(expert, weights.factor, {}));
  return down->set_expert(expert, weights.down, {});
}

}  // namespace moe::cpu
