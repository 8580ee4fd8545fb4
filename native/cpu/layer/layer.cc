#include "cpu/layer/layer.h"

#include <algorithm>

#include "cpu/gemm/unpack_field.h"
#include "cpu/layer/forward_state.h"
#include "cpu/layer/pass.h"

namespace moe::cpu {

namespace {

// Rows (tokens times slots) per chunk: enough that weights are read rarely, few enough that the workspace stays small.
constexpr int64_t kChunkRows = 32768;

}  // namespace

Status CpuLayer::create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer) {
  std::unique_ptr<CpuLayer> made(new CpuLayer(description, context));
  MOE_TRY(made->weights_.allocate());
  *layer = std::move(made);
  return {};
}

Status CpuLayer::over(const std::vector<WeightPart>& parts, const LayerDescription& description,
                      const OffloadOptions* offload, Context& context, std::unique_ptr<Layer>* layer) {
  std::unique_ptr<CpuLayer> made(new CpuLayer(description, context));
  MOE_TRY(made->weights_.borrow(parts));
  if (offload != nullptr) {
    const MappedFile* file = made->weights_.file();
    if (file == nullptr) return {Code::unsupported_operation, "offload: expected weights in a mapped file"};
    MOE_TRY(Offload::create(description.bank.count, *offload, made->weights_.bank_matrices(), *file, &made->offload_));
  }
  *layer = std::move(made);
  return {};
}

Status CpuLayer::set_router(const WeightView& weight, const MatrixView& bias) {
  return weights_.set_router(weight, bias);
}

Status CpuLayer::set_selection_bias(const MatrixView& bias) { return weights_.set_selection_bias(bias); }

Status CpuLayer::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  return weights_.set_shared_gate(weight, bias);
}

Status CpuLayer::set_expert(int64_t expert, const ExpertViews& weights) { return weights_.set_expert(expert, weights); }

template <class Read>
Status CpuLayer::read_weights(Read&& read) {
  MOE_TRY(weights_.check_file());
  MOE_TRY(read());
  return weights_.check_read();
}

Status CpuLayer::copy_weight(WeightRole role, int64_t expert, const TensorView& target) {
  return read_weights([&] { return weights_.copy(role, expert, target); });
}

Status CpuLayer::copy_selection_bias(const TensorView& target) {
  return read_weights([&] { return weights_.copy_selection_bias(target); });
}

Status CpuLayer::copy_field(WeightRole role, int64_t expert, QuantizedField field, const TensorView& target) {
  return read_weights([&] {
    const LayerWeights::Matrix of = weights_.matrix(role, expert);
    return unpack_field(of.packed, of.expert, of.up, field, context_.team, target);
  });
}

std::unique_ptr<ForwardState> CpuLayer::new_state() { return std::make_unique<CpuForwardState>(); }

Status CpuLayer::prefetch(const std::vector<int32_t>& experts) {
  if (!offload_) return Layer::prefetch(experts);
  const Status status = guarded([&]() -> Status {
    MOE_TRY(weights_.check_file());
    offload_->prefetch(experts);
    return {};
  });
  if (!status.ok()) offload_->share().forget_all();
  return status;
}

Status CpuLayer::run(Stages stages, const LayerForward& f) {
  if (!offload_) return run_chunks(stages, f);
  MOE_TRY(check_offloaded(stages));
  // Also if it throws: then nothing is known to be resident.
  const Status status = guarded([&] { return run_chunks(stages, f); });
  if (!status.ok() && !status.in_data()) offload_->share().forget_all();
  return status;
}

Status CpuLayer::run_chunks(Stages stages, const LayerForward& f) {
  const LayerDescription& d = description();
  MOE_TRY(weights_.check_file());
  LayerTokens tokens;
  tokens.x = f.x.as<const char>();
  tokens.dtype = f.x.dtype;
  tokens.count = f.x.shape[0];
  tokens.choices = f.choices(d);
  tokens.logits = f.logits.as<float>();
  tokens.ids = f.ids.as<int32_t>();
  tokens.weights = f.weights.as<float>();
  tokens.residual = f.residual.as<const char>();
  tokens.residual_dtype = f.residual.dtype;
  tokens.y = f.y.as<char>();
  tokens.pre = f.pre;
  tokens.multiplied = f.multiplied;
  StageTimes times;
  // Rows that are kept are in the order of all tokens, so there is one chunk; it gives its memory back.
  const int64_t most = f.keeps_rows() ? tokens.count : kChunkRows / std::max<int64_t>(1, d.slots(tokens.choices));
  const int64_t chunk = std::max<int64_t>(1, most);
  Buffer for_kept_rows;
  auto* state = static_cast<CpuForwardState*>(f.state);
  Status data_error;
  for (int64_t first = 0; first < tokens.count; first += chunk) {
    const LayerTokens part = tokens.part(first, std::min(chunk, tokens.count - first), d);
    PassState own;
    CpuForwardState::Chunk* kept = state == nullptr ? nullptr : &state->chunk(static_cast<size_t>(first / chunk));
    std::optional<OffloadedPass> offloaded;
    if (offload_) offloaded.emplace(*offload_);
    Pass pass(context_, d, weights_, part, stages, kept == nullptr ? own : kept->state,
              offloaded ? &*offloaded : nullptr);
    Buffer* memory = f.keeps_rows() ? &for_kept_rows : nullptr;
    if (kept != nullptr) memory = &kept->memory.emplace_back();
    Status status = pass.run(times, memory);
    if (!status.ok() && !status.in_data()) return status;
    if (data_error.ok()) data_error = std::move(status);
  }
  MOE_TRY(weights_.check_read());
  if (tokens.y != nullptr) times_ = times;
  return data_error;
}

}  // namespace moe::cpu
