// The CPU device.
#pragma once

#include <string>

#include "core/backend.h"
#include "cpu/routing/capacity.h"
#include "cpu/routing/expert_choice.h"
#include "cpu/routing/hierarchical_gating.h"
#include "cpu/runtime/context.h"

namespace moe::cpu {

class CpuBackend final : public Backend {
 public:
  static Status open(const DeviceOptions& options, std::unique_ptr<Backend>* backend);

  const char* description() const override { return description_.c_str(); }
  Status allocate(size_t bytes, void** data) override;
  void release(void* data, size_t bytes) override;
  bool host_addressable() const override { return true; }
  Status write(void* device, const void* host, size_t bytes) override;
  Status read(void* host, const void* device, size_t bytes) override;
  Status synchronize() override { return {}; }

  Status router_projection(const RouterProjection& p) override;
  Status gating(const Gating& p) override;
  Status limit_capacity(const LimitCapacity& p) override { return cpu::limit_capacity(context_, p); }
  Status expert_slots(const ExpertSlots& p) override { return cpu::expert_slots(context_, p); }
  Status hierarchical_gating(const HierarchicalGating& p) override { return cpu::hierarchical_gating(context_, p); }
  Status expert_choice(const ExpertChoice& p) override { return cpu::expert_choice(context_, p); }
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
  std::string weight_layout() const override;
  Status map_file(int descriptor, size_t bytes, std::shared_ptr<void>* data) override;
  Status stored_layer(const LayerDescription& description, const std::vector<WeightPart>& parts,
                      std::unique_ptr<Layer>* layer) override;

 private:
  CpuBackend(const Kernels& kernels, const DeviceOptions& options);

  Context context_;
  std::string description_;
};

}  // namespace moe::cpu
