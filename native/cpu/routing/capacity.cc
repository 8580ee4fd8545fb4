#include <algorithm>

#include "cpu/operators.h"
#include "cpu/routing/sort.h"

namespace moe::cpu {
namespace {

constexpr int64_t kTokensAtOnce = 256;
constexpr int64_t kGroupsAtOnce = 4;

// A token's slots, and the order in which experts serve them.
class ServedSlots {
 public:
  explicit ServedSlots(const LimitCapacity& p)
      : ids_(p.ids.as<const int32_t>()),
        weights_(p.weights.as<const float>()),
        experts_(p.experts),
        order_{p.drop, p.ids.shape[0], p.ids.shape[1]} {}

  // Calls use(slot, expert, number) for the token's slots that have an expert; slots are counted from the first
  // token's.
  template <class Use>
  void for_each(int64_t token, Use&& use) const {
    const int64_t first = token * order_.top_k;
    uint32_t largest = UINT32_MAX;
    for (int64_t slot = first; slot < first + order_.top_k; ++slot) {
      if (valid(slot)) largest = std::min(largest, descending_order(weights_[slot]));
    }
    for (int64_t slot = first; slot < first + order_.top_k; ++slot) {
      if (!valid(slot)) continue;
      use(slot, ids_[slot], order_.number(token, slot - first, descending_order(weights_[slot]), largest));
    }
  }

 private:
  bool valid(int64_t slot) const { return ids_[slot] >= 0 && ids_[slot] < experts_; }

  const int32_t* ids_;
  const float* weights_;
  int64_t experts_;
  ServingOrder order_;
};

// An exclusive upper bound of the `capacity` smallest numbers; reorders them.
uint64_t limit_of(uint64_t* begin, uint64_t* end, int64_t capacity) {
  if (end - begin <= capacity) return UINT64_MAX;
  std::nth_element(begin, begin + capacity, end);
  return begin[capacity];
}

// Dropped choices keep their 0, also if the sum is NaN.
void divide_kept(const int32_t* ids, float* weights, int64_t count, float sum, float scale) {
  if (sum == 0.0f) return;
  for (int64_t j = 0; j < count; ++j) {
    if (ids[j] >= 0) weights[j] = weights[j] / sum * scale;
  }
}

// An exclusive upper bound of the numbers that an expert serves in a sequence; reorders the numbers of its rows.
uint64_t limit_of_group(const LimitCapacity& p, const SortedRows& sorted, uint64_t* numbers, int64_t group) {
  const int64_t expert = group % p.experts;
  const int64_t first_token = group / p.experts * p.sequence_length;
  // An expert's rows are in token order, so those of one sequence are contiguous.
  const int32_t* rows = sorted.token_of_row + sorted.offsets[expert];
  const int32_t* rows_end = sorted.token_of_row + sorted.offsets[expert + 1];
  const int32_t* first = std::lower_bound(rows, rows_end, first_token);
  const int32_t* last = std::lower_bound(first, rows_end, first_token + p.sequence_length);
  return limit_of(numbers + (first - sorted.token_of_row), numbers + (last - sorted.token_of_row), p.capacity);
}

// Writes a token's slots: those that are below the limits of their experts are kept.
void keep_slots(const LimitCapacity& p, const ServedSlots& served, const uint64_t* limits_of_sequence, int64_t token) {
  const int64_t top_k = p.ids.shape[1];
  int32_t* ids = p.kept_ids.as<int32_t>();
  float* weights = p.kept_weights.as<float>();
  std::fill_n(ids + token * top_k, top_k, -1);
  std::fill_n(weights + token * top_k, top_k, 0.0f);
  float chosen = 0.0f, kept = 0.0f;
  served.for_each(token, [&](int64_t slot, int32_t expert, uint64_t number) {
    const float weight = p.weights.as<const float>()[slot];
    chosen += weight;
    if (number >= limits_of_sequence[expert]) return;
    ids[slot] = expert;
    weights[slot] = weight;
    kept += weight;
  });
  if (p.divisor == KeptDivisor::none) return;
  divide_kept(ids + token * top_k, weights + token * top_k, top_k, p.divisor == KeptDivisor::kept ? kept : chosen,
              p.scale);
}

}  // namespace

Status run(Context& context, const LimitCapacity& p) {
  const int64_t tokens = p.ids.shape[0], top_k = p.ids.shape[1], slots = p.ids.size();
  const int64_t groups = tokens / p.sequence_length * p.experts;
  SortedRows sorted{};
  uint64_t* numbers = nullptr;  // by row
  uint64_t* limits = nullptr;   // by sequence and expert
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    sorted.offsets = arena.take<int32_t>(p.experts + 1);
    sorted.token_of_row = arena.take<int32_t>(slots);
    sorted.row_of_slot = arena.take<int32_t>(slots);
    numbers = arena.take<uint64_t>(slots);
    limits = arena.take<uint64_t>(groups);
  }));
  const Status status = sort_rows({.name = "limitCapacity: ids",
                                   .ids = p.ids.as<const int32_t>(),
                                   .tokens = tokens,
                                   .top_k = top_k,
                                   .experts = p.experts},
                                  sorted);

  const ServedSlots served(p);
  context.team.for_range(tokens, kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      served.for_each(token,
                      [&](int64_t slot, int32_t, uint64_t number) { numbers[sorted.row_of_slot[slot]] = number; });
    }
  });
  context.team.for_range(groups, kGroupsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) limits[group] = limit_of_group(p, sorted, numbers, group);
  });
  context.team.for_range(tokens, kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      keep_slots(p, served, limits + token / p.sequence_length * p.experts, token);
    }
  });
  return status;
}

Status run(Context& context, const ExpertSlots& p) {
  const int64_t tokens = p.tokens(), top_k = p.ids.shape[1], slots = p.ids.size();
  const int64_t experts = p.slots.shape[0], capacity = p.slots.shape[1];
  SortedRows sorted{};
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    sorted.offsets = arena.take<int32_t>(experts + 1);
    sorted.token_of_row = arena.take<int32_t>(slots);
    sorted.row_of_slot = arena.take<int32_t>(slots);
  }));
  const int32_t* ids = p.ids.as<const int32_t>();
  const Status status =
      sort_rows({.name = "expertSlots: ids", .ids = ids, .tokens = tokens, .top_k = top_k, .experts = experts}, sorted);
  int32_t* places = p.slots.as<int32_t>();
  std::fill(places, places + experts * capacity, -1);
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int32_t row = sorted.row_of_slot[slot];
    if (row < 0) continue;
    const int64_t place = row - sorted.offsets[ids[slot]];
    if (place < capacity) places[ids[slot] * capacity + place] = static_cast<int32_t>(slot);
  }
  return status;
}

}  // namespace moe::cpu
