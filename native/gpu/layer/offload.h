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
#include "gpu/layer/weights.h"

namespace moe::MOE_GPU_NAMESPACE {

class Offload {
 public:
  // Sets the number of slots; see resolve_slots().
  static Status resolve(const LayerDescription& layer, const gpu::DeviceTraits& traits, OffloadOptions* options,
                        int64_t* expert_bytes);
  // For weights whose bank's experts are offloaded to as many places as there are slots. They must outlive it.
  static Status create(const LayerDescription& layer, const OffloadOptions& options, int64_t expert_bytes,
                       const LayerWeights& weights, Runtime& runtime, std::unique_ptr<Offload>* offload);

  // Enqueues loads of experts of the bank.
  Status prefetch(const std::vector<int32_t>& experts);
  std::vector<int32_t> leave(const std::vector<ExpertRows>& needed) { return residency_.leave(needed); }
  const Residency& residency() const { return residency_; }
  // Where there is a slot for every expert: enqueues loads of all, and makes the work enqueued from here on wait for
  // them. The experts then are where they would be without offload.
  Status load_all();
  // After a failure: nothing is known to be on the device.
  void forget();
  OffloadStats stats() const { return residency_.stats(expert_bytes_); }
  size_t host_bytes() const { return static_cast<size_t>(layer_.bank.count * expert_bytes_); }

 private:
  friend class OffloadedPass;

  Offload(const LayerDescription& layer, const OffloadOptions& options, int64_t expert_bytes,
          const LayerWeights& weights, Runtime& runtime);

  const LayerDescription layer_;
  const int64_t expert_bytes_;
  std::vector<const GpuPackedExperts*> matrices_;  // of the bank's experts, in the order of their products
  Runtime& runtime_;
  Residency residency_;
  std::unique_ptr<Uploads> uploads_;
  // Whether there are uploads that no work waits for yet.
  bool prefetching_ = false;
};

// The experts of one pass.
class OffloadedPass {
 public:
  explicit OffloadedPass(Offload& offload)
      : offload_(offload),
        group_(offload.layer_.groups()[LayerDescription::kBankGroup].experts),
        places_(offload.runtime_) {}

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
  const ExpertRange group_;  // of the bank's experts
  Scratch places_;           // of every round, [rounds, the group's experts] i32
  int64_t product_ = 0;
};

}  // namespace moe::MOE_GPU_NAMESPACE
