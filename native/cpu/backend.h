// The CPU device.
#pragma once

#include <string>

#include "core/backend.h"
#include "core/host_memory.h"
#include "cpu/operators.h"

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

#define MOE_OPERATOR(Operator) \
  Status run(const Operator& p) override { return cpu::run(context_, p); }
  MOE_OPERATORS(MOE_OPERATOR)
#undef MOE_OPERATOR

  std::shared_ptr<OffloadBudget> offload_budget(const BudgetOptions& options) override {
    return std::make_shared<OffloadBudget>(options);
  }
  Status packed_experts(const ExpertProduct& weights, int64_t rows, std::unique_ptr<PackedExperts>* packed) override;
  Status layer(const LayerDescription& description, const OffloadOptions* offload,
               std::unique_ptr<Layer>* layer) override;
  std::string weight_layout(const LayerDescription& description) const override;
  Status map_file(int descriptor, std::string path, size_t bytes, std::shared_ptr<MappedFile>* file) override;
  Status stored_layer(const LayerDescription& description, const std::vector<WeightPart>& parts,
                      const OffloadOptions* offload, std::unique_ptr<Layer>* layer) override;

 private:
  CpuBackend(const Kernels& kernels, const DeviceOptions& options);

  // The last to end, after all that the device holds.
  struct GivesBackKept {
    ~GivesBackKept() { HostMemory::of_process().give_back_kept(); }
  };

  GivesBackKept gives_back_kept_;
  Context context_;
  std::string description_;
};

}  // namespace moe::cpu
