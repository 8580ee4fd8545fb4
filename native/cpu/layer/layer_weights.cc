#include "cpu/layer/layer_weights.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

// The part with the checksums of the others.
static constexpr const char* kChecksums = "checksums";

LayerWeights::LayerWeights(const LayerDescription& description, Context& context)
    : description_(description), context_(context) {
  const LayerDescription& d = description_;
  const auto projection = [&](int64_t rows, const WeightFormat* format) {
    return ExpertProduct{.experts = 1, .rows = rows, .columns = d.hidden, .format = format};
  };
  packed_parts_.push_back({"router", &router, projection(d.experts, d.formats.router)});
  const std::vector<ExpertGroup> expert_groups = d.groups();
  groups = std::vector<Group>(expert_groups.size());
  for (size_t i = 0; i < groups.size(); ++i) add_group(expert_groups[i], groups[i]);
  if (d.shared_gate != SharedGate::none) {
    packed_parts_.push_back({"shared_gate", &shared_gate, projection(d.shared_gate_rows(), d.formats.shared_gate)});
  }
  values_parts_ = {
      {"router_bias", &router_bias, d.experts},
      {"selection_bias", &selection_bias, d.experts},
      {"shared_gate_bias", &shared_gate_bias, d.shared_gate_rows()},
      {"gate_up_bias", &gate_up_bias, d.all_experts() * d.gate_up_rows()},
      {"down_bias", &down_bias, d.all_experts() * d.hidden},
  };
}

// Parts of values in the order of their matrices, once these are there.
void LayerWeights::add_inputs() {
  for (const PackedPart& part : packed_parts_) {
    ExpertInputs& inputs = (*part.packed)->inputs();
    const int64_t size = part.weights.experts * part.weights.columns;
    values_parts_.push_back({part.name + "_input_scale", &inputs.scales, size});
    values_parts_.push_back({part.name + "_input_order", &inputs.orders, size});
  }
}

void LayerWeights::add_group(const ExpertGroup& group, Group& weights) {
  const LayerDescription& d = description_;
  const ExpertFormats& formats = group.formats;
  weights.experts = group.experts;
  const auto add = [&](const char* name, std::unique_ptr<CpuPackedExperts>& packed, const ExpertProduct& product) {
    packed_parts_.push_back({(group.experts.first > 0 ? "shared_expert_" : "") + std::string(name), &packed, product});
  };
  const auto product = [&](int64_t rows, int64_t columns, const WeightFormat* format) {
    return ExpertProduct{
        .experts = group.experts.count, .rows = rows, .columns = columns, .format = format, .tokens = d.tokens};
  };
  add("down", weights.down, product(d.hidden, d.intermediate, formats.down));
  ExpertProduct gate_up = product(d.gate_up_rows(), d.hidden, formats.up);
  gate_up.activation = d.activation;
  gate_up.clamps = d.clamps(group.experts);
  if (d.gate_apart(formats)) {
    gate_up.rows = d.intermediate;
    ExpertProduct gate = gate_up;
    gate.format = formats.gate;
    gate.part = ActivationPart::gate;
    gate_up.part = ActivationPart::up;
    add("gate", weights.gate, gate);
    add("up", weights.gate_up, gate_up);
  } else {
    add("gate_up", weights.gate_up, gate_up);
  }
  if (d.multiplier) add("multiplier", weights.multiplier, product(d.intermediate, d.hidden, formats.multiplier));
}

Status LayerWeights::allocate() {
  for (const PackedPart& part : packed_parts_) {
    MOE_TRY(CpuPackedExperts::create(part.weights, context_.kernels, context_.team, context_.poison, part.packed));
    bytes_ += (*part.packed)->bytes();
  }
  add_inputs();
  return {};
}

Status LayerWeights::borrow(const std::vector<WeightPart>& parts) {
  const auto find = [&parts](const std::string& name) -> const WeightPart* {
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const WeightPart& p) { return p.name == name; });
    return part == parts.end() ? nullptr : &*part;
  };
  borrowed_ = true;
  size_t known = 0;
  for (const PackedPart& part : packed_parts_) {
    const WeightPart* stored = find(part.name);
    if (stored == nullptr) return {Code::invalid_argument, "stored weights: expected " + part.name};
    MOE_TRY(CpuPackedExperts::over(*stored, part.weights, context_.kernels, context_.team, part.packed));
    bytes_ += stored->bytes;
    ++known;
  }
  add_inputs();
  for (const ValuesPart& part : values_parts_) {
    const WeightPart* stored = find(part.name);
    if (stored == nullptr) continue;
    MOE_TRY(borrow_part(*stored, part.bytes(), *part.values));
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

std::vector<const CpuPackedExperts*> LayerWeights::bank_matrices() const {
  const Group& group = groups[LayerDescription::kBankGroup];
  std::vector<const CpuPackedExperts*> matrices;
  for (const auto* matrix : {&group.multiplier, &group.gate, &group.gate_up, &group.down}) {
    if (*matrix != nullptr) matrices.push_back(matrix->get());
  }
  return matrices;
}

Status LayerWeights::check_against(const WeightPart& sums) {
  if (sums.file == nullptr) return {Code::invalid_argument, "stored weights: expected checksums in a file"};
  MOE_TRY(check_part(sums, static_cast<int64_t>(checksum_count() * sizeof(uint64_t))));
  file_ = sums.file;
  const uint64_t* next = static_cast<const uint64_t*>(sums.data);
  for (const PackedPart& part : packed_parts_) {
    CpuPackedExperts& packed = **part.packed;
    const size_t bytes = static_cast<size_t>(packed.layout().expert_bytes());
    checked_matrices_.emplace_back(*file_, part.name, packed.data(), bytes, part.weights.experts, next);
    packed.check_by(&checked_matrices_.back());
    next += part.weights.experts;
  }
  for (const ValuesPart& part : values_parts_) {
    const Buffer& values = *part.values;
    if (values.data() == nullptr) continue;
    checked_values_.emplace_back(*file_, part.name, values.data(), values.bytes(), 1, next);
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
    for (CheckedPart& part : checked_values_) part.reset();
  }
  for (CheckedPart& part : checked_values_) MOE_TRY(part.check(context_.team, {0}));
  return {};
}

size_t LayerWeights::checksum_count() const {
  int64_t count = 0;
  for (const PackedPart& part : packed_parts_) count += part.weights.experts;
  for (const ValuesPart& part : values_parts_) count += part.values->data() == nullptr ? 0 : 1;
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
  for (const PackedPart& part : packed_parts_) {
    const CpuPackedExperts& packed = **part.packed;
    add(packed.data(), static_cast<size_t>(packed.layout().expert_bytes()), part.weights.experts);
  }
  for (const ValuesPart& part : values_parts_) {
    const Buffer& values = *part.values;
    if (values.data() != nullptr) add(values.data(), values.bytes(), 1);
  }
  sums.resize(checksum_count());
  return sums;
}

std::vector<WeightPart> LayerWeights::parts() const {
  std::vector<WeightPart> parts;
  for (const PackedPart& part : packed_parts_) {
    const CpuPackedExperts& packed = **part.packed;
    parts.push_back({part.name, packed.data(), packed.panel_bytes()});
  }
  for (const ValuesPart& part : values_parts_) {
    const Buffer& values = *part.values;
    if (values.data() != nullptr) parts.push_back({part.name, values.data(), values.bytes()});
  }
  return parts;
}

Status LayerWeights::check_settable() const {
  if (!borrowed_) return {};
  return {Code::unsupported_operation, "layer: the weights are stored elsewhere and cannot be set"};
}

// Rounds values to what a dtype can hold, as on devices that store biases in it.
static void round_to(const Kernels& kernels, DType dtype, float* values, int64_t count) {
  constexpr int64_t kAtOnce = 1024;
  float rounded[kAtOnce];
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    const int64_t more = std::min(kAtOnce, count - begin);
    kernels.from_f32(dtype, values + begin, more, rounded);
    kernels.to_f32(dtype, rounded, more, values + begin);
  }
}

// Copies a bias into its part, from index `at` on. The first bias creates the part, filled with zeros.
Status LayerWeights::keep_bias(Buffer& values, const MatrixView& bias, int64_t at) {
  if (bias.absent()) return {};
  if (values.data() == nullptr) {
    const auto part = std::find_if(values_parts_.begin(), values_parts_.end(),
                                   [&](const ValuesPart& p) { return p.values == &values; });
    MOE_TRY(values.reserve(static_cast<size_t>(part->bytes()), false));
    bytes_ += static_cast<size_t>(part->bytes());
    std::fill_n(values.data(), part->bytes(), 0);
  }
  float* const kept = reinterpret_cast<float*>(values.data()) + at;
  read_row(context_.kernels, bias, 0, 0, bias.columns, kept);
  if (&values != &selection_bias) round_to(context_.kernels, description_.bias_dtype, kept, bias.columns);
  return {};
}

Status LayerWeights::set_router(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(check_settable());
  MOE_TRY(keep_bias(router_bias, bias, 0));
  return router->set_expert(0, weight, {});
}

Status LayerWeights::set_selection_bias(const MatrixView& bias) {
  MOE_TRY(check_settable());
  return keep_bias(selection_bias, bias, 0);
}

Status LayerWeights::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(check_settable());
  MOE_TRY(keep_bias(shared_gate_bias, bias, 0));
  return shared_gate->set_expert(0, weight, {});
}

Status LayerWeights::set_expert(int64_t expert, const ExpertViews& weights) {
  MOE_TRY(check_settable());
  const LayerDescription& d = description_;
  const bool gated = is_gated(d.activation);
  const int64_t rows = d.gate_up_rows();
  if (gated) MOE_TRY(keep_bias(gate_up_bias, weights.gate_bias, expert * rows));
  MOE_TRY(keep_bias(gate_up_bias, weights.up_bias, (expert + 1) * rows - d.intermediate));
  MOE_TRY(keep_bias(down_bias, weights.down_bias, expert * d.hidden));
  const Group& group = group_of(expert);
  const auto set = [&](CpuPackedExperts& packed, const WeightView& weight, const WeightView& up) {
    const size_t before = packed.bytes();
    Status status = packed.set_expert(expert - group.experts.first, weight, up);
    bytes_ += packed.bytes() - before;
    return status;
  };
  const bool joined = group.gate_up->weights().gated();
  if (group.gate != nullptr) MOE_TRY(set(*group.gate, weights.gate, {}));
  MOE_TRY(joined ? set(*group.gate_up, weights.gate, weights.up) : set(*group.gate_up, weights.up, {}));
  if (d.multiplier) MOE_TRY(set(*group.multiplier, weights.multiplier, {}));
  return set(*group.down, weights.down, {});
}

Status LayerWeights::copy(WeightRole role, int64_t expert, const TensorView& target) const {
  const LayerDescription& d = description_;
  const int64_t rows = d.gate_up_rows();
  switch (role) {
    case WeightRole::router: return router->copy_expert(0, false, target);
    case WeightRole::routerBias: return copy_values(router_bias, 0, target);
    case WeightRole::sharedGate: return shared_gate->copy_expert(0, false, target);
    case WeightRole::sharedGateBias: return copy_values(shared_gate_bias, 0, target);
    case WeightRole::gateBias: return copy_values(gate_up_bias, expert * rows, target);
    case WeightRole::upBias: return copy_values(gate_up_bias, (expert + 1) * rows - d.intermediate, target);
    case WeightRole::downBias: return copy_values(down_bias, expert * d.hidden, target);
    default: {
      const Matrix of = matrix(role, expert);
      return of.packed.copy_expert(of.expert, of.up, target);
    }
  }
}

// Biases are kept in float32.
Status LayerWeights::copy_values(const Buffer& values, int64_t at, const TensorView& target) const {
  if (values.data() == nullptr) {
    std::fill_n(target.as<char>(), target.bytes(), 0);
  } else {
    context_.kernels.from_f32(target.dtype, floats(values) + at, target.size(), target.as<char>());
  }
  return {};
}

const LayerWeights::Group& LayerWeights::group_of(int64_t expert) const {
  return *std::find_if(groups.begin(), groups.end(), [&](const Group& each) { return each.experts.contains(expert); });
}

LayerWeights::Matrix LayerWeights::matrix(WeightRole role, int64_t expert) const {
  const Group& group = group_of(expert);
  const int64_t index = expert - group.experts.first;
  const bool joined = group.gate_up->weights().gated();
  switch (role) {
    case WeightRole::gate: return {joined ? *group.gate_up : *group.gate, index, false};
    case WeightRole::up: return {*group.gate_up, index, joined};
    case WeightRole::multiplier: return {*group.multiplier, index, false};
    default: return {*group.down, index, false};
  }
}

}  // namespace moe::cpu
