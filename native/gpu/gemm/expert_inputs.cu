#include "gpu/gemm/expert_inputs.h"

#include <vector>

#include "core/formats/input_order.h"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// A weight's values in the host's memory; empty if it has none.
template <class Value>
Status read_values(Runtime& runtime, const Value* values, int64_t count, std::vector<Value>* host) {
  if (values == nullptr) return {};
  host->resize(static_cast<size_t>(count));
  return runtime.read(host->data(), values, host->size() * sizeof(Value));
}

struct HostInputs {
  std::vector<float> scales;
  std::vector<int32_t> order;

  Status read(Runtime& runtime, const WeightView& weight) {
    MOE_TRY(read_values(runtime, weight.input_scale, weight.columns, &scales));
    MOE_TRY(read_values(runtime, weight.input_order, weight.columns, &order));
    return order.empty() ? Status{} : check_input_order(order.data(), weight.columns);
  }
  bool operator==(const HostInputs&) const = default;
};

}  // namespace

ExpertInputs::~ExpertInputs() {
  for (void* values : {scales_, orders_}) {
    if (values != nullptr) runtime_.release(values);
  }
}

// Writes one expert's given values; value_of(k) stands for those that are not given.
template <class Value, class Default>
Status ExpertInputs::keep(void** values, int64_t expert, const std::vector<Value>& given, Default&& value_of) {
  if (*values == nullptr) {
    if (given.empty()) return {};
    std::vector<Value> all(static_cast<size_t>(experts_ * columns_));
    for (size_t i = 0; i < all.size(); ++i) all[i] = value_of(static_cast<int64_t>(i) % columns_);
    MOE_TRY(runtime_.allocate(all.size() * sizeof(Value), values));
    bytes_ += all.size() * sizeof(Value);
    MOE_TRY(runtime_.write(*values, all.data(), all.size() * sizeof(Value)));
  }
  std::vector<Value> own = given;
  while (static_cast<int64_t>(own.size()) < columns_) own.push_back(value_of(static_cast<int64_t>(own.size())));
  return runtime_.write(static_cast<Value*>(*values) + expert * columns_, own.data(), own.size() * sizeof(Value));
}

Status ExpertInputs::set(int64_t expert, const WeightView& weight, const WeightView& up) {
  HostInputs own, other;
  MOE_TRY(own.read(runtime_, weight));
  if (!up.absent()) {
    MOE_TRY(other.read(runtime_, up));
    if (own != other) return different_inputs();
  }
  MOE_TRY(keep(&scales_, expert, own.scales, [](int64_t) { return 1.0f; }));
  return keep(&orders_, expert, own.order, [](int64_t k) { return static_cast<int32_t>(k); });
}

}  // namespace moe::MOE_GPU_NAMESPACE
