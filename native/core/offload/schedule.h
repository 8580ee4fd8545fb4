// In which order the loads and the products of a call are issued.
#pragma once

#include <vector>

#include "core/layer/stages.h"
#include "core/offload/residency.h"

namespace moe {

// Which experts are resident is decided after sort and holds until down.
inline Status check_offloaded(Stages stages) {
  const bool sort = contains(stages, Stage::sort);
  if (contains(stages, Stage::gate_up) == sort && contains(stages, Stage::down) == sort) return {};
  return {Code::unsupported_operation, "stages: expected sort, gateUp and down in one call of a layer with offload"};
}

// A layer has several matrices for each expert, and computes one product with all of them after the other. Every
// product goes through the same rounds, and the slots of its matrix with it. Loads are issued in the order in which the
// products need them, each as soon as the round is that it must wait for.
class OffloadSchedule {
 public:
  OffloadSchedule(std::vector<OffloadRound> rounds, int64_t products)
      : rounds_(std::move(rounds)), products_(products) {}

  const std::vector<OffloadRound>& rounds() const { return rounds_; }

  // Calls load(product, round) for the loads that can be issued now.
  template <class Load>
  Status issue(Load&& load) {
    const auto rounds = static_cast<int64_t>(rounds_.size());
    for (; issued_ < products_ * rounds; ++issued_) {
      const int64_t product = issued_ / rounds, index = issued_ % rounds;
      const OffloadRound& round = rounds_[index];
      if (round.loads.empty()) continue;
      if (round.after >= 0 && product * rounds + round.after >= computed_) break;
      MOE_TRY(load(product, index));
    }
    return {};
  }

  // Calls compute(round) for every round of the next product, and issues the loads of later ones in between.
  template <class Load, class Compute>
  Status run(Load&& load, Compute&& compute) {
    for (size_t round = 0; round < rounds_.size(); ++round) {
      MOE_TRY(issue(load));
      MOE_TRY(compute(static_cast<int64_t>(round)));
      ++computed_;
    }
    return {};
  }

 private:
  std::vector<OffloadRound> rounds_;
  int64_t products_;
  // Of the rounds of all products, one product after the other.
  int64_t issued_ = 0, computed_ = 0;
};

}  // namespace moe
