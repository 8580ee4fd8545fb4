// Which experts are in fast memory when there are more of them than it holds, and how the others get there. Pure: all
// decisions follow from the sequence of calls, so that they can be tested and replayed without a device.
#pragma once

#include <cstdint>
#include <vector>

#include "core/enum.h"

namespace moe {

// Which expert makes room: the one of the lowest score, which every use raises; of several the lowest.
//   lru   the call of the last use
//   lfu   how many calls have used it, also while it was not resident
//   lfru  the same, but a use counts half after every kHalfLife * experts later uses of any expert; when experts join
//         or leave, their number changes and the scores stay
MOE_ENUM(OffloadPolicy, lfru, lru, lfu)

// An expert that a call needs, and how many rows it computes.
struct ExpertRows {
  int32_t expert = 0;
  int64_t rows = 0;
};

struct OffloadCounts {
  int64_t calls = 0;
  int64_t hits = 0;        // experts that a call needed and that were resident
  int64_t misses = 0;      // and that were not
  int64_t on_cpu = 0;      // of the misses: left to the CPU, not loaded
  int64_t prefetched = 0;  // loaded before a call needed them
  int64_t evictions = 0;

  // Experts that were loaded.
  int64_t loads() const { return misses - on_cpu + prefetched; }
};

struct SlotLoad {
  int32_t expert = 0;
  int32_t slot = 0;
  int32_t evicted = -1;  // the expert that was there
};

struct ResidentExpert {
  int32_t expert = 0;
  int32_t slot = 0;
};

// Some of a call's experts. All of them are resident at the same time.
struct OffloadRound {
  std::vector<SlotLoad> loads;
  // To compute, in ascending order: the loaded ones, or some that were resident before the call.
  std::vector<ResidentExpert> experts;
  // The last round whose experts are in the slots that the loads take: they must not begin before it is computed. -1:
  // they may begin at once.
  int64_t after = -1;
};

// What a layer tells about its offloading.
struct OffloadStats {
  OffloadCounts counts;
  int64_t slots = 0;
  int64_t expert_bytes = 0;
  int64_t loaded_bytes = 0;
  std::vector<int32_t> resident;  // in ascending order
};

class Residency {
 public:
  // Without experts yet.
  Residency(int64_t slots, OffloadPolicy policy) : slots_(slots), policy_(policy) {}

  // Experts first .. first + count - 1 join. Numbers below them may belong to nobody; at most slots() - 1 experts may
  // be pinned, unless there is a slot for all. If it throws, nothing has changed.
  void add(int64_t first, int64_t count, const std::vector<int32_t>& pinned = {});
  // They leave, and their slots are empty.
  void remove(int64_t first, int64_t count) noexcept;
  // They have the numbers from `to` on instead, which are lower and belong to nobody else. They stay in their slots.
  void move(int64_t first, int64_t count, int64_t to) noexcept;

  // Of the experts that a call needs, those that are left to another device because they are not resident and have
  // fewer rows than `rows_to_load`; plan() is told of the others.
  std::vector<int32_t> leave(const std::vector<ExpertRows>& needed, int64_t rows_to_load);
  // The one of those left last that the policy would rather have than one that it has, or -1.
  int32_t preferred() const;
  // What a call does that needs these experts, in ascending order: first the resident ones, then the others. There is
  // at least one round, and the first loads nothing. If not all experts fit at once, rounds take at most half of the
  // slots, so that loads can overlap the round before them.
  std::vector<OffloadRound> plan(const std::vector<int32_t>& needed);
  // Loads of those of these experts that are not resident, as many as there are slots that are not pinned to others.
  // Not a use.
  std::vector<SlotLoad> prefetch(const std::vector<int32_t>& experts);
  // Not resident any more: nothing, or one expert.
  void clear() noexcept;
  void clear(int32_t expert) noexcept;

  int64_t slots() const { return slots_; }
  // One more than the highest expert.
  int64_t end() const { return static_cast<int64_t>(experts_.size()); }
  int32_t slot_of(int32_t expert) const { return experts_[expert].slot; }
  // Whether there is a slot for every expert. Expert e then is loaded into slot e, if that is empty.
  bool holds_all() const { return slots() >= end(); }
  const OffloadCounts& counts() const { return counts_; }
  // Those of experts first .. first + count - 1, of this size, with these counts.
  OffloadStats stats(const OffloadCounts& counts, int64_t first, int64_t count, int64_t expert_bytes) const;
  // Those of all experts.
  OffloadStats stats(int64_t expert_bytes) const { return stats(counts_, 0, end(), expert_bytes); }

 private:
  struct Expert {
    int32_t slot = -1;
    bool joined = false;
    bool pinned = false;
    // What the policy goes by. Scores of lfru are multiples of a unit that shrinks with time.
    double score = 0;
  };

  // Raises the scores of experts that a call uses.
  void use(const std::vector<int32_t>& experts, int64_t call);
  double half_life() const;
  // Makes the present the unit of lfru's scores.
  void rescale() noexcept;
  // Drops the highest numbers that belong to nobody.
  void shrink() noexcept;
  SlotLoad load(int32_t expert, int32_t slot);
  // The slot that `expert` takes: the best of those for which rank(slot) is lowest and not negative, where an empty
  // slot is better than any expert. -1: there is none.
  template <class Rank>
  int32_t choose_slot(int32_t expert, Rank&& rank) const;

  int64_t slots_;
  OffloadPolicy policy_;
  std::vector<Expert> experts_;
  std::vector<int32_t> expert_in_;  // of the slots that may be used yet, no more than experts; -1: empty
  std::vector<int32_t> left_;       // by the last call
  int64_t joined_ = 0;              // how many experts there are
  int64_t uses_ = 0;                // since the unit of scores was last changed
  OffloadCounts counts_;
};

}  // namespace moe
