#include "core/layer/check.h"

#include <algorithm>

#include "core/operators/check.h"

namespace moe {

namespace {

bool is_matrix(const WeightView& weight, int64_t rows, int64_t columns) {
  return weight.rows == rows && weight.columns == columns;
}

// Biases are read as floats.
bool is_vector(const MatrixView& vector, int64_t size) {
  return vector.rows == 1 && vector.columns == size && is_float(vector.dtype);
}
bool is_bias(const MatrixView& bias, int64_t size) { return bias.absent() || is_vector(bias, size); }

// An expert's bias may be shorter, as its matrices may be smaller.
bool is_bias_within(const MatrixView& bias, int64_t most) {
  return bias.columns <= most && is_bias(bias, bias.columns);
}

// The rows that gate_up leaves for a backward pass.
Status check_kept_rows(const LayerDescription& layer, Stages stages, const LayerForward& f) {
  if (!f.keeps_rows()) return {};
  MOE_TRY(expect_sizes(contains(stages, Stage::gate_up) && (f.multiplied.absent() || layer.multiplier),
                       "forward: expected rows to keep of gateUp, and of a layer with a multiplier its own"));
  // A pass over all of them at once counts tokens and rows in 32 bits.
  const int64_t tokens = f.x.shape[0], slots = layer.slots(f.choices(layer));
  MOE_TRY(expect_sizes(tokens <= INT32_MAX / std::max<int64_t>(1, slots),
                       "forward: expected fewer than 2^31 tokens and rows to keep"));
  TensorMatch match;
  match.set('R', tokens * slots);
  match.set('P', layer.gate_up_rows());
  match.set('I', layer.intermediate);
  if (!f.pre.absent()) MOE_TRY(check_tensor(match, "pre", f.pre, "[R, P] float"));
  return f.multiplied.absent() ? Status() : check_tensor(match, "multiplied", f.multiplied, "[R, I] float");
}

}  // namespace

Status check_layer(const LayerDescription& layer) {
  MOE_TRY(expect_sizes(layer.hidden >= 1 && layer.intermediate >= 1 && layer.experts >= 1 &&
                           layer.shared_experts >= 0 && layer.shared_experts < INT32_MAX,
                       "layer: expected sizes of at least 1"));
  MOE_TRY(expect_sizes(layer.bank.first >= 0 && layer.bank.count >= 0 && layer.bank.end() <= layer.experts,
                       "layer: expected a bank of the experts"));
  MOE_TRY(expect_sizes(is_float(layer.bias_dtype), "layer: expected a float dtype of biases"));
  MOE_TRY((ExpertProduct{.experts = layer.experts, .rows = 1, .columns = layer.hidden}.check()));
  return ExpertProduct{.experts = layer.all_experts(), .rows = layer.gate_up_rows(), .columns = layer.hidden}.check();
}

Status check_router(const LayerDescription& layer, const WeightView& weight, const MatrixView& bias) {
  return expect_sizes(is_matrix(weight, layer.experts, layer.hidden) && is_bias(bias, layer.experts),
                      "setRouter: expected weight [E, H] and bias [E]");
}

Status check_selection_bias(const LayerDescription& layer, const MatrixView& bias) {
  return expect_sizes(is_vector(bias, layer.experts), "setSelectionBias: expected [E]");
}

Status check_shared_gate(const LayerDescription& layer, const WeightView& weight, const MatrixView& bias) {
  const int64_t rows = layer.shared_gate_rows();
  return expect_sizes(is_matrix(weight, rows, layer.hidden) && is_bias(bias, rows),
                      "setSharedGate: expected a weight and a bias that fit the layer's shared gate");
}

Status check_expert(const LayerDescription& layer, int64_t expert, const ExpertViews& w) {
  const int64_t hidden = layer.hidden, intermediate = layer.intermediate;
  MOE_TRY(expect_sizes(expert >= 0 && expert < layer.all_experts() && is_gated(layer.activation) != w.gate.absent() &&
                           layer.multiplier != w.multiplier.absent(),
                       "setExpert: the expert's index, gate or multiplier does not fit the layer"));
  for (const WeightView* inner : {&w.gate, &w.up, &w.multiplier}) {
    MOE_TRY(
        expect_sizes(inner->within(intermediate, hidden), "setExpert: expected gate, up and multiplier up to [I, H]"));
  }
  return expect_sizes(w.down.within(hidden, intermediate) && is_bias_within(w.gate_bias, intermediate) &&
                          is_bias_within(w.up_bias, intermediate) && is_bias_within(w.down_bias, hidden),
                      "setExpert: expected down up to [H, I], and biases up to [I], [I] and [H]");
}

Status check_copied_weight(const LayerDescription& layer, WeightRole role, int64_t expert, const TensorView& target) {
  const WeightSize size = size_of_weight(layer, role);
  const bool of_expert = role >= WeightRole::gate;
  const int64_t owners = of_expert ? layer.all_experts() : 1;
  MOE_TRY(expect_sizes(expert >= 0 && expert < owners && size.rows > 0 && target.rank > 0 &&
                           target.size() == size.rows * size.columns && target.shape[target.rank - 1] == size.columns,
                       "copyWeight: expected a weight that the layer has, and a tensor of its size"));
  const WeightFormat* format = format_of_weight(layer, role, expert);
  const bool own = format == nullptr ? is_float(target.dtype) : format->plain() && target.dtype == plain_dtype(*format);
  return expect_sizes(own || target.dtype == DType::f32,
                      "copyWeight: expected a tensor of the weight's own dtype, or f32");
}

Status check_forward(const LayerDescription& layer, Stages stages, const LayerForward& f) {
  MOE_TRY(check_stages(stages, layer, f));
  TensorMatch match;
  match.set('H', layer.hidden);
  match.set('E', layer.experts);
  const bool gating = contains(stages, Stage::gating);
  // Any k will do where the choices are given.
  if (gating) match.set('k', layer.gating.top_k);
  const auto check = [&match](const char* name, const TensorView& tensor, const TensorPattern& pattern) {
    return tensor.absent() ? Status() : check_tensor(match, name, tensor, pattern);
  };
  MOE_TRY(check("x", f.x, "[T, H] D"));
  MOE_TRY(check("logits", f.logits, "[T, E] f32"));
  MOE_TRY(check("ids", f.ids, "[T, k] i32"));
  MOE_TRY(check("weights", f.weights, "[T, k] f32"));
  MOE_TRY(check("residual", f.residual, "[T, H] float"));
  MOE_TRY(check("y", f.y, "[T, H] D"));
  MOE_TRY(expect_sizes(f.ids.absent() == f.weights.absent(), "layer: expected ids and weights together"));
  MOE_TRY(expect_sizes(f.x.shape[0] == 0 || layer.slots(f.choices(layer)) <= INT32_MAX,
                       "layer: expected fewer than 2^31 slots of a token"));
  MOE_TRY(check_kept_rows(layer, stages, f));
  return expect_sizes(!gating || layer.gating.fits(layer.experts), "layer: expected a rule that fits the experts");
}

}  // namespace moe
