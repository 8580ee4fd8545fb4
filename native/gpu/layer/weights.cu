#include "gpu/layer/weights.h"

#include <string>

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// The router and the gate of shared experts are multiplied as plain elements.
Status check_plain(const char* role, const WeightFormat& format) {
  if (format.plain()) return {};
  return {Code::unsupported_dtype, std::string(role) + ": expected f32, f16 or bf16, got " + format.name +
                                       ": choose one of these to store it in; the weights can be given in any format"};
}

}  // namespace

LayerWeights::LayerWeights(const LayerDescription& layer, Runtime& runtime)
    : layer_(layer),
      router_(runtime, plain_dtype(*layer.formats.router), layer.experts, layer.hidden),
      router_bias_(runtime, layer.bias_dtype, 1, layer.experts),
      selection_bias_(runtime, DType::f32, 1, layer.experts),
      shared_gate_(runtime, plain_dtype(*layer.formats.shared_gate), layer.shared_gate_rows(), layer.hidden),
      shared_gate_bias_(runtime, layer.bias_dtype, 1, layer.shared_gate_rows()) {}

Status LayerWeights::create(const LayerDescription& layer, const SlotMemory* slots, Runtime& runtime,
                            std::unique_ptr<LayerWeights>* weights) {
  MOE_TRY(check_plain("formats.router", *layer.formats.router));
  if (layer.shared_gate != SharedGate::none) MOE_TRY(check_plain("formats.sharedGate", *layer.formats.shared_gate));
  std::unique_ptr<LayerWeights> made(new LayerWeights(layer, runtime));
  const std::vector<ExpertGroup> groups = layer.groups();
  size_t offloaded = 0;
  for (const gpu::LayerProduct& each : gpu::layer_products(layer)) {
    Product product{.role = each.role, .group = each.group, .experts = groups[each.group].experts};
    const bool in_slots = slots != nullptr && each.group == LayerDescription::kBankGroup;
    void* matrices = in_slots ? slots->matrices(offloaded++) : nullptr;
    MOE_TRY(GpuPackedExperts::create(each.product, matrices, runtime, &product.weight));
    product.bias = std::make_unique<Parameter>(runtime, layer.bias_dtype, each.product.experts, each.product.rows);
    made->products_.push_back(std::move(product));
  }
  *weights = std::move(made);
  return {};
}

Status LayerWeights::set_router(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(router_.set(weight));
  return router_bias_.set(plain_weight(bias));
}

Status LayerWeights::set_selection_bias(const MatrixView& bias) { return selection_bias_.set(plain_weight(bias)); }

Status LayerWeights::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(shared_gate_.set(weight));
  return shared_gate_bias_.set(plain_weight(bias));
}

Status LayerWeights::set_expert(int64_t expert, const ExpertViews& weights) {
  for (const Product& product : products_) {
    if (!product.experts.contains(expert)) continue;
    MOE_TRY(set_product(product, expert - product.experts.first, weights));
  }
  return {};
}

// `expert` counts within the product.
Status LayerWeights::set_product(const Product& product, int64_t expert, const ExpertViews& w) {
  const auto set = [&](const WeightView& weight, const WeightView& up, const MatrixView& bias) -> Status {
    MOE_TRY(product.weight->set_expert(expert, weight, up));
    return product.bias->set(plain_weight(bias), expert);
  };
  switch (product.role) {
    case gpu::ProductRole::multiplier: return set(w.multiplier, {}, {});
    case gpu::ProductRole::gate: return set(w.gate, {}, w.gate_bias);
    case gpu::ProductRole::up: return set(w.up, {}, w.up_bias);
    case gpu::ProductRole::down: return set(w.down, {}, w.down_bias);
    case gpu::ProductRole::gate_up: break;
  }
  if (!is_gated(layer_.activation)) return set(w.up, {}, w.up_bias);
  MOE_TRY(set(w.gate, w.up, w.gate_bias));
  return product.bias->set(plain_weight(w.up_bias), expert, layer_.intermediate);
}

Status LayerWeights::copy(WeightRole role, int64_t expert, const TensorView& target) const {
  switch (role) {
    case WeightRole::router: return router_.copy(target);
    case WeightRole::routerBias: return router_bias_.copy(target);
    case WeightRole::sharedGate: return shared_gate_.copy(target);
    case WeightRole::sharedGateBias: return shared_gate_bias_.copy(target);
    default: return copy_expert(role, expert, target);
  }
}

LayerWeights::Matrix LayerWeights::matrix(WeightRole role, int64_t expert) const {
  const bool gated = is_gated(layer_.activation);
  const auto has_matrix = [&](gpu::ProductRole product) {
    switch (product) {
      case gpu::ProductRole::multiplier: return role == WeightRole::multiplier;
      case gpu::ProductRole::gate: return role == WeightRole::gate;
      case gpu::ProductRole::up: return role == WeightRole::up;
      case gpu::ProductRole::down: return role == WeightRole::down;
      case gpu::ProductRole::gate_up: return role == WeightRole::up || (gated && role == WeightRole::gate);
    }
    return false;
  };
  for (const Product& product : products_) {
    if (!product.experts.contains(expert) || !has_matrix(product.role)) continue;
    const bool joined = gated && product.role == gpu::ProductRole::gate_up;
    return {.product = &product, .expert = expert - product.experts.first, .up = joined && role == WeightRole::up};
  }
  return {.product = nullptr, .expert = 0, .up = false};
}

Status LayerWeights::copy_expert(WeightRole role, int64_t expert, const TensorView& target) const {
  const Matrix of = matrix(matrix_of(role), expert);
  if (of.product == nullptr) return {Code::invalid_argument, "copyWeight: expected a weight that the layer has"};
  if (!is_bias(role)) return of.product->weight->copy_expert(of.expert, of.up, target);
  return of.product->bias->copy(target, of.expert, of.up ? layer_.intermediate : 0);
}

std::vector<gpu::InputUse> LayerWeights::inputs() const {
  std::vector<gpu::InputUse> uses;
  for (const Product& product : products_) uses.push_back(product.weight->inputs().use());
  return uses;
}

size_t LayerWeights::bytes() const {
  size_t bytes = router_.bytes() + router_bias_.bytes() + selection_bias_.bytes() + shared_gate_.bytes() +
                 shared_gate_bias_.bytes();
  for (const Product& product : products_) bytes += product.weight->bytes() + product.bias->bytes();
  return bytes;
}

}  // namespace moe::MOE_GPU_NAMESPACE
