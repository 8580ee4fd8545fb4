// One GPU, or the simulated one: the operator table over the kernels.
#pragma once

#include <memory>

#include "core/backend.h"
#include "gpu/runtime/context.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuBackend : public Backend {
 public:
  GpuBackend(std::unique_ptr<Runtime> runtime, bool tf32) : context_(std::move(runtime), tf32) {}
  Status open() { return context_.errors.open(); }

  const char* description() const override { return context_.runtime->description().c_str(); }
  Status allocate(size_t bytes, void** data) override { return context_.runtime->allocate(bytes, data); }
  void release(void* data, size_t) override { context_.runtime->release(data); }
  bool host_addressable() const override { return context_.runtime->host_addressable(); }
  Status write(void* device, const void* host, size_t bytes) override;
  // Also the failures that synchronize() would report: reading is waiting.
  Status read(void* host, const void* device, size_t bytes) override;
  Status synchronize() override;

  Status router_projection(const RouterProjection& p) override;
  Status gating(const Gating& p) override;
  Status limit_capacity(const LimitCapacity& p) override;
  Status expert_slots(const ExpertSlots& p) override;
  Status hierarchical_gating(const HierarchicalGating& p) override;
  Status expert_choice(const ExpertChoice& p) override;
  Status sort(const Sort& p) override;
  Status permute(const Permute& p) override;
  Status unpermute(const Unpermute& p) override;
  Status grouped_gemm(const GroupedGemm& p) override;
  Status combine(const Combine& p) override;
  Status router_scores(const RouterScores& p) override;
  Status expert_totals(const ExpertTotals& p) override;
  Status column_means(const ColumnMeans& p) override;
  Status balance_loss(const BalanceLoss& p) override;
  Status imbalance(const Imbalance& p) override;
  Status update_selection_bias(const SelectionBiasUpdate& p) override;
  Status accumulate(const Accumulate& p) override;
  Status random(const Random& p) override;
  Status jitter(const Jitter& p) override;
  Status noisy_logits(const NoisyLogits& p) override;
  Status expert_load(const ExpertLoad& p) override;
  Status copy_matrix(const CopyMatrix& p) override;
  Status packed_experts(const ExpertProduct& weights, std::unique_ptr<PackedExperts>* packed) override;
  Status layer(const LayerDescription& description, std::unique_ptr<Layer>* layer) override;

 private:
  Runtime& runtime() { return *context_.runtime; }

  Context context_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
