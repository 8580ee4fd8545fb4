#include "core/offload/residency.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace moe {

namespace {

// Of LFRU, in uses per expert.
constexpr double kHalfLife = 8;
// Scores are made smaller before they overflow.
constexpr double kLargestExponent = 512;

}  // namespace

Status resolve_slots(int64_t experts, int64_t expert_bytes, OffloadOptions* options) {
  if (options->slots == 0) options->slots = options->bytes / expert_bytes;
  if (options->slots < 1) {
    return {Code::invalid_argument, "offload.bytes: expected at least " + std::to_string(expert_bytes) +
                                        ", the bytes of one expert, got " + std::to_string(options->bytes)};
  }
  options->slots = std::min(options->slots, experts);
  const auto pinned = static_cast<int64_t>(options->pinned.size());
  if (pinned < options->slots || options->slots == experts) return {};
  return {Code::invalid_argument, "offload.pinned: expected fewer experts than the " + std::to_string(options->slots) +
                                      " slots, got " + std::to_string(pinned)};
}

Residency::Residency(int64_t experts, const OffloadOptions& options)
    : policy_(options.policy),
      rows_to_load_(options.rows_to_load),
      slot_of_(static_cast<size_t>(experts), -1),
      expert_in_(static_cast<size_t>(options.slots), -1),
      pinned_(static_cast<size_t>(experts), false),
      scores_(static_cast<size_t>(experts), 0.0) {
  for (const int32_t expert : options.pinned) pinned_[expert] = true;
}

void Residency::use(const std::vector<int32_t>& experts, int64_t call) {
  const double half_life = kHalfLife * static_cast<double>(scores_.size());
  if (static_cast<double>(uses_) / half_life > kLargestExponent) {
    for (double& score : scores_) score *= std::exp2(-kLargestExponent);
    uses_ -= static_cast<int64_t>(kLargestExponent * half_life);
  }
  const double weight = std::exp2(static_cast<double>(uses_) / half_life);
  for (const int32_t expert : experts) {
    double& score = scores_[expert];
    switch (policy_) {
      case OffloadPolicy::lru: score = static_cast<double>(call); break;
      case OffloadPolicy::lfu: score += 1; break;
      case OffloadPolicy::lfru: score += weight; break;
    }
  }
  if (policy_ == OffloadPolicy::lfru) uses_ += static_cast<int64_t>(experts.size());
}

template <class Rank>
int32_t Residency::choose_slot(int32_t expert, Rank&& rank) const {
  // Where all have a slot, each has its own, so that no table is needed to find it.
  if (holds_all()) return expert;
  int32_t best = -1;
  int64_t best_rank = 0;
  const auto better = [&](int32_t slot) {
    const int32_t here = expert_in_[slot], there = expert_in_[best];
    if (here < 0 || there < 0) return here < 0 && there >= 0;
    return scores_[here] < scores_[there] || (scores_[here] == scores_[there] && here < there);
  };
  for (int32_t slot = 0; slot < slots(); ++slot) {
    const int32_t here = expert_in_[slot];
    if (here >= 0 && pinned_[here]) continue;
    const int64_t own = rank(slot);
    if (own < 0) continue;
    if (best < 0 || own < best_rank || (own == best_rank && better(slot))) {
      best = slot;
      best_rank = own;
    }
  }
  return best;
}

SlotLoad Residency::load(int32_t expert, int32_t slot) {
  const SlotLoad load{.expert = expert, .slot = slot, .evicted = expert_in_[slot]};
  if (load.evicted >= 0) {
    slot_of_[load.evicted] = -1;
    ++counts_.evictions;
  }
  slot_of_[expert] = slot;
  expert_in_[slot] = expert;
  return load;
}

std::vector<int32_t> Residency::leave(const std::vector<ExpertRows>& needed) {
  left_.clear();
  for (const ExpertRows& each : needed) {
    if (slot_of_[each.expert] < 0 && each.rows < rows_to_load_) left_.push_back(each.expert);
  }
  use(left_, counts_.calls + 1);
  counts_.misses += static_cast<int64_t>(left_.size());
  counts_.left += static_cast<int64_t>(left_.size());
  return left_;
}

int32_t Residency::preferred() const {
  int32_t best = -1;
  for (const int32_t expert : left_) {
    if (slot_of_[expert] < 0 && (best < 0 || scores_[expert] > scores_[best])) best = expert;
  }
  if (best < 0) return -1;
  const int32_t slot = choose_slot(best, [](int32_t) { return int64_t{0}; });
  if (slot < 0) return -1;
  const int32_t there = expert_in_[slot];
  return there < 0 || scores_[there] < scores_[best] ? best : -1;
}

std::vector<OffloadRound> Residency::plan(const std::vector<int32_t>& needed) {
  use(needed, ++counts_.calls);
  std::vector<int32_t> hits, misses;
  for (const int32_t expert : needed) (slot_of_[expert] >= 0 ? hits : misses).push_back(expert);
  counts_.hits += static_cast<int64_t>(hits.size());
  counts_.misses += static_cast<int64_t>(misses.size());
  const auto count = static_cast<int64_t>(needed.size());
  const bool fits = count <= slots();
  const int64_t most = fits ? count : std::max<int64_t>(1, slots() / 2);

  std::vector<OffloadRound> rounds(1);
  // The round whose expert is in a slot; -1: one that this call does not need.
  std::vector<int64_t> round_of(expert_in_.size(), -1);
  for (const int32_t expert : hits) {
    if (static_cast<int64_t>(rounds.back().experts.size()) == most) rounds.emplace_back();
    rounds.back().experts.push_back({.expert = expert, .slot = slot_of_[expert]});
    round_of[slot_of_[expert]] = static_cast<int64_t>(rounds.size()) - 1;
  }
  for (size_t next = 0; next < misses.size();) {
    const auto index = static_cast<int64_t>(rounds.size());
    OffloadRound& round = rounds.emplace_back();
    for (; next < misses.size() && static_cast<int64_t>(round.loads.size()) < most; ++next) {
      // Slots of the round before are taken only where there are no others.
      const int32_t slot = choose_slot(misses[next], [&](int32_t candidate) -> int64_t {
        const int64_t used = round_of[candidate];
        if (used == index || (used == index - 1 && used >= 0 && !round.loads.empty())) return -1;
        return used < 0 ? 0 : used == index - 1 ? 2 : 1;
      });
      if (slot < 0) break;
      round.after = std::max(round.after, round_of[slot]);
      round.loads.push_back(load(misses[next], slot));
      round.experts.push_back({.expert = misses[next], .slot = slot});
      round_of[slot] = index;
    }
  }
  return rounds;
}

std::vector<SlotLoad> Residency::prefetch(const std::vector<int32_t>& experts) {
  std::vector<SlotLoad> loads;
  std::vector<bool> kept(expert_in_.size(), false);
  for (const int32_t expert : experts) {
    if (slot_of_[expert] >= 0) {
      kept[slot_of_[expert]] = true;
      continue;
    }
    const int32_t slot = choose_slot(expert, [&](int32_t candidate) -> int64_t { return kept[candidate] ? -1 : 0; });
    if (slot < 0) break;
    kept[slot] = true;
    loads.push_back(load(expert, slot));
  }
  counts_.prefetched += static_cast<int64_t>(loads.size());
  return loads;
}

void Residency::clear() {
  std::fill(slot_of_.begin(), slot_of_.end(), -1);
  std::fill(expert_in_.begin(), expert_in_.end(), -1);
}

OffloadStats Residency::stats(int64_t expert_bytes) const {
  OffloadStats stats{.counts = counts_,
                     .slots = slots(),
                     .expert_bytes = expert_bytes,
                     .loaded_bytes = (counts_.misses - counts_.left + counts_.prefetched) * expert_bytes,
                     .resident = {}};
  for (size_t i = 0; i < slot_of_.size(); ++i) {
    if (slot_of_[i] >= 0) stats.resident.push_back(static_cast<int32_t>(i));
  }
  return stats;
}

}  // namespace moe
