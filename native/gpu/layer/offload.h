// Experts that are in the host's memory and come to the device when a pass needs them. The kernels do not know: tile
// maps say where each expert's matrix is.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/offload/schedule.h"
#include "gpu/gemm/tile_map.cuh"
#include "gpu/layer/pass.h"
#include "gpu/layer/slot_memory.h"
#include "gpu/layer/weights.h"

namespace moe::MOE_GPU_NAMESPACE {

class Offload {
 public:
  // The groups of a layer with offload: the bank's experts come and go, so shared ones are always apart.
  static LayerDescription with_groups(LayerDescription layer);
  // Joins a budget, and makes weights whose bank's experts are in its slots. They must outlive it.
  static Status create(const LayerDescription& layer, const OffloadOptions& options, Runtime& runtime,
                       std::unique_ptr<LayerWeights>* weights, std::unique_ptr<Offload>* offload);

  // Enqueues loads of experts of the bank.
  Status prefetch(const std::vector<int32_t>& experts);
  // Where all experts are held: enqueues loads of the layer's, and makes the work enqueued from here on wait for them.
  // They then are in order, the first in slot share().first().
  Status load_all();
  // What the layer has of its budget.
  OffloadShare& share() const { return *share_; }
  // Of the slots, if no other layer shares them.
  size_t bytes() const { return shares_budget_ ? 0 : static_cast<size_t>(slots_->bytes()); }
  size_t host_bytes() const { return static_cast<size_t>(layer_.bank.count * share_->expert_bytes()); }

 private:
  friend class OffloadedPass;

  Offload(const LayerDescription& layer, std::shared_ptr<SlotMemory> slots, bool shares_budget, Runtime& runtime)
      : layer_(layer), slots_(std::move(slots)), shares_budget_(shares_budget), runtime_(runtime) {}
  // Makes the work enqueued from here on wait for what was prefetched.
  Status wait_for_prefetched();

  const LayerDescription layer_;
  const std::shared_ptr<SlotMemory> slots_;
  const bool shares_budget_;
  Runtime& runtime_;
  std::unique_ptr<OffloadShare> share_;
  std::vector<const GpuPackedExperts*> matrices_;  // of the bank's experts, in the order of their products
};

// The experts of one pass.
class OffloadedPass {
 public:
  explicit OffloadedPass(Offload& offload)
      : offload_(offload), group_{0, offload.layer_.bank.count}, places_(offload.runtime_) {}

  // After sort: waits for it, to learn which experts have rows, and enqueues the first loads.
  Status begin(const Pass& pass);
  // Calls launch(experts) for every round of the next product.
  Status run_rounds(const std::function<Status(const MappedExperts&)>& launch);

 private:
  Status load(int64_t product, int64_t round);
  // Mark of the uploads behind the loads of a product's round; mark 0 is behind those of prefetches.
  size_t mark(int64_t product, int64_t round) const;

  Offload& offload_;
  std::optional<OffloadSchedule> schedule_;
  const ExpertRange group_;  // the bank's experts
  Scratch places_;           // of every round, [rounds, experts] i32
  int64_t product_ = 0;
};

}  // namespace moe::MOE_GPU_NAMESPACE
