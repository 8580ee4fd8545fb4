#include "core/offload/residency.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moe {

namespace {

// Of LFRU, in uses per expert.
constexpr double kHalfLife = 8;
// Scores are made smaller before they overflow.
constexpr double kLargestExponent = 512;

}  // namespace

double Residency::half_life() const { return kHalfLife * static_cast<double>(std::max<int64_t>(1, joined_)); }

void Residency::rescale() noexcept {
  if (policy_ != OffloadPolicy::lfru) return;
  const double unit = std::exp2(static_cast<double>(-uses_) / half_life());
  for (Expert& expert : experts_) expert.score *= unit;
  uses_ = 0;
}

void Residency::add(int64_t first, int64_t count, const std::vector<int32_t>& pinned) {
  const int64_t after = std::max(end(), first + count);
  const auto used = std::max(expert_in_.size(), static_cast<size_t>(std::min(slots_, after)));
  expert_in_.reserve(used);
  experts_.resize(static_cast<size_t>(after));
  expert_in_.resize(used, -1);
  rescale();
  for (int64_t expert = first; expert < first + count; ++expert) experts_[expert].joined = true;
  for (const int32_t expert : pinned) experts_[expert].pinned = true;
  joined_ += count;
}

void Residency::remove(int64_t first, int64_t count) noexcept {
  rescale();
  for (int64_t expert = first; expert < first + count; ++expert) {
    clear(static_cast<int32_t>(expert));
    experts_[expert] = {};
  }
  joined_ -= count;
  std::erase_if(left_, [=](int32_t expert) { return expert >= first && expert < first + count; });
  shrink();
}

void Residency::move(int64_t first, int64_t count, int64_t to) noexcept {
  for (int64_t expert = 0; expert < count; ++expert) {
    Expert& moved = experts_[to + expert];
    moved = std::exchange(experts_[first + expert], {});
    if (moved.slot >= 0) expert_in_[moved.slot] = static_cast<int32_t>(to + expert);
  }
  for (int32_t& expert : left_) {
    if (expert >= first && expert < first + count) expert -= static_cast<int32_t>(first - to);
  }
  shrink();
}

void Residency::shrink() noexcept {
  while (!experts_.empty() && !experts_.back().joined) experts_.pop_back();
}

void Residency::use(const std::vector<int32_t>& experts, int64_t call) {
  if (static_cast<double>(uses_) / half_life() > kLargestExponent) rescale();
  const double weight = std::exp2(static_cast<double>(uses_) / half_life());
  for (const int32_t expert : experts) {
    double& score = experts_[expert].score;
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
  // Where all have a slot, each has its own, so that no table is needed to find it. Only an expert that was loaded
  // while there were more can be in another's.
  if (holds_all() && expert_in_[expert] < 0) return expert;
  int32_t best = -1;
  int64_t best_rank = 0;
  const auto better = [&](int32_t slot) {
    const int32_t here = expert_in_[slot], there = expert_in_[best];
    if (here < 0 || there < 0) return here < 0 && there >= 0;
    const double score = experts_[here].score, other = experts_[there].score;
    return score < other || (score == other && here < there);
  };
  for (int32_t slot = 0; slot < std::ssize(expert_in_); ++slot) {
    const int32_t here = expert_in_[slot];
    if (here >= 0 && experts_[here].pinned) continue;
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
    experts_[load.evicted].slot = -1;
    ++counts_.evictions;
  }
  experts_[expert].slot = slot;
  expert_in_[slot] = expert;
  return load;
}

std::vector<int32_t> Residency::leave(const std::vector<ExpertRows>& needed, int64_t rows_to_load) {
  left_.clear();
  for (const ExpertRows& each : needed) {
    if (slot_of(each.expert) < 0 && each.rows < rows_to_load) left_.push_back(each.expert);
  }
  use(left_, counts_.calls + 1);
  counts_.misses += static_cast<int64_t>(left_.size());
  counts_.on_cpu += static_cast<int64_t>(left_.size());
  return left_;
}

int32_t Residency::preferred() const {
  int32_t best = -1;
  for (const int32_t expert : left_) {
    if (slot_of(expert) < 0 && (best < 0 || experts_[expert].score > experts_[best].score)) best = expert;
  }
  if (best < 0) return -1;
  const int32_t slot = choose_slot(best, [](int32_t) { return int64_t{0}; });
  if (slot < 0) return -1;
  const int32_t there = expert_in_[slot];
  return there < 0 || experts_[there].score < experts_[best].score ? best : -1;
}

std::vector<OffloadRound> Residency::plan(const std::vector<int32_t>& needed) {
  use(needed, ++counts_.calls);
  std::vector<int32_t> hits, misses;
  for (const int32_t expert : needed) (slot_of(expert) >= 0 ? hits : misses).push_back(expert);
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
    rounds.back().experts.push_back({.expert = expert, .slot = slot_of(expert)});
    round_of[slot_of(expert)] = static_cast<int64_t>(rounds.size()) - 1;
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
    if (slot_of(expert) >= 0) {
      kept[slot_of(expert)] = true;
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

void Residency::clear() noexcept {
  for (Expert& expert : experts_) expert.slot = -1;
  std::fill(expert_in_.begin(), expert_in_.end(), -1);
}

void Residency::clear(int32_t expert) noexcept {
  int32_t& slot = experts_[expert].slot;
  if (slot >= 0) expert_in_[slot] = -1;
  slot = -1;
}

OffloadStats Residency::stats(const OffloadCounts& counts, int64_t first, int64_t count, int64_t expert_bytes) const {
  OffloadStats stats{.counts = counts,
                     .slots = std::min(count, slots()),
                     .expert_bytes = expert_bytes,
                     .loaded_bytes = counts.loads() * expert_bytes,
                     .resident = {}};
  for (int32_t expert = 0; expert < count; ++expert) {
    if (slot_of(static_cast<int32_t>(first) + expert) >= 0) stats.resident.push_back(expert);
  }
  return stats;
}

}  // namespace moe
