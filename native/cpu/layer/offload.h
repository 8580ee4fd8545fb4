// Experts in a mapped file, of which only some may be in memory at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/mapped_file.h"
#include "core/offload/budget.h"
#include "core/offload/schedule.h"
#include "cpu/gemm/panels.h"
#include "cpu/gemm/plan.h"

namespace moe::cpu {

class Offload {
 public:
  // Matrices of experts in a file, in the order of their products. `experts` of them come and go, the others stay.
  static Status create(int64_t experts, const OffloadOptions& options, std::vector<const CpuPackedExperts*> matrices,
                       const MappedFile& file, std::unique_ptr<Offload>* offload);

  // Asks for experts.
  void prefetch(const std::vector<int32_t>& experts);
  // What the layer has of its budget. After a failure, forget_all() gives all experts' memory back.
  OffloadShare& share() const { return *share_; }
  // Of the layer's experts that are not resident at a time. A budget that it shares counts the bytes of its slots.
  size_t absent_bytes() const {
    const int64_t slots = shares_budget_ ? 0 : share_->slots();
    return static_cast<size_t>((experts_ - slots) * share_->expert_bytes());
  }

 private:
  friend class OffloadedPass;

  Offload(int64_t experts, std::vector<const CpuPackedExperts*> matrices, const MappedFile& file, bool shares_budget)
      : experts_(experts), matrices_(std::move(matrices)), file_(file), shares_budget_(shares_budget) {}
  void load(int64_t matrix, const std::vector<SlotLoad>& loads) const;
  void drop(int64_t matrix, int32_t expert) const;

  const int64_t experts_;
  const std::vector<const CpuPackedExperts*> matrices_;
  const MappedFile& file_;
  const bool shares_budget_;
  std::unique_ptr<OffloadShare> share_;
};

// The experts of one pass.
class OffloadedPass {
 public:
  explicit OffloadedPass(Offload& offload) : offload_(offload) {}

  // After sort, with its offsets: asks for the experts that have rows.
  Status begin(const int32_t* offsets);
  // Whether this is one of the matrices that come and go.
  bool includes(const CpuPackedExperts& weights) const;
  // Calls multiply(tiles) with the tiles of every round of the next product that has some.
  Status run_rounds(const std::vector<RowTile>& tiles,
                    const std::function<Status(const std::vector<RowTile>&)>& multiply);

 private:
  // Asks for what a round of the product with a matrix needs.
  Status load(int64_t matrix, int64_t round) const;

  Offload& offload_;
  std::optional<OffloadSchedule> schedule_;
  std::vector<int64_t> round_of_;  // of every expert
};

}  // namespace moe::cpu
