// Experts in a mapped file, of which only some may be in memory at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "core/mapped_file.h"
#include "core/offload/schedule.h"
#include "cpu/gemm/panels.h"
#include "cpu/gemm/plan.h"

namespace moe::cpu {

class Offload {
 public:
  // Matrices of experts in a file, in the order of their products. `experts` of them come and go, the others stay.
  Offload(int64_t experts, const OffloadOptions& options, std::vector<const CpuPackedExperts*> matrices,
          const MappedFile& file);
  // The bytes of one expert in all matrices.
  static int64_t expert_bytes(const std::vector<const CpuPackedExperts*>& matrices);

  // Asks for experts.
  void prefetch(const std::vector<int32_t>& experts);
  // After a failure: gives all experts' memory back.
  void forget();
  const Residency& residency() const { return residency_; }
  OffloadStats stats() const { return residency_.stats(expert_bytes_); }
  // Of the experts that are not resident at a time.
  size_t absent_bytes() const { return static_cast<size_t>((experts_ - residency_.slots()) * expert_bytes_); }

 private:
  friend class OffloadedPass;

  void load(int64_t matrix, const std::vector<SlotLoad>& loads) const;

  const int64_t experts_;
  const int64_t expert_bytes_;
  const std::vector<const CpuPackedExperts*> matrices_;
  const MappedFile& file_;
  Residency residency_;
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
  Offload& offload_;
  std::optional<OffloadSchedule> schedule_;
  std::vector<int64_t> round_of_;  // of every expert
};

}  // namespace moe::cpu
