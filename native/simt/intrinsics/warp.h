// Shuffles, votes, matches and reductions of a warp, as defined by the CUDA C++ Programming Guide. Stricter in one
// respect: every lane named by a mask must take part, even where the hardware would excuse an exited lane.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "simt/machine.h"

namespace moe::simt {

namespace machine {

struct ShuffleOperand {
  uint64_t value;
  unsigned source;
  uint64_t result = 0;
};
struct VoteOperand {
  bool predicate;
  uint32_t ballot = 0;
};
struct MatchOperand {
  uint64_t value;
  uint32_t equal = 0;
};
struct ReduceOperand {
  uint32_t value;
  uint32_t result = 0;
};

extern const Collective kSyncWarp;
extern const Collective kShuffle, kShuffleUp, kShuffleDown, kShuffleXor;
extern const Collective kBallot, kAny, kAll;
extern const Collective kMatchAny, kMatchAll;
extern const Collective kReduceAdd, kReduceMinSigned, kReduceMinUnsigned, kReduceMaxSigned, kReduceMaxUnsigned;
extern const Collective kReduceAnd, kReduceOr, kReduceXor;

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T shuffle(const Collective& collective, const std::source_location& where, unsigned mask, T value, unsigned source) {
  ShuffleOperand operand{to_bits(value), source};
  meet(collective, where, mask, &operand);
  memcpy(&value, &operand.result, sizeof value);
  return value;
}

inline uint32_t vote(const Collective& collective, const std::source_location& where, unsigned mask, bool predicate) {
  VoteOperand operand{predicate};
  meet(collective, where, mask, &operand);
  return operand.ballot;
}

template <class T>
uint32_t match(const Collective& collective, const std::source_location& where, unsigned mask, T value) {
  MatchOperand operand{to_bits(value)};
  meet(collective, where, mask, &operand);
  return operand.equal;
}

template <class T>
T reduce(const Collective& collective, const std::source_location& where, unsigned mask, T value) {
  ReduceOperand operand{static_cast<uint32_t>(value)};
  meet(collective, where, mask, &operand);
  return static_cast<T>(operand.result);
}

}  // namespace machine

inline void __syncwarp(unsigned mask = 0xffffffffu, std::source_location where = std::source_location::current()) {
  machine::meet(machine::kSyncWarp, where, mask, nullptr);
}

// The shuffles work within segments of `width` lanes, a power of two. A source outside the segment yields the lane's
// own value, except that __shfl_sync wraps around.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current()) {
  const int lane = static_cast<int>(machine::lane());
  return machine::shuffle(machine::kShuffle, where, mask, value,
                          static_cast<unsigned>((lane & ~(width - 1)) | (source & (width - 1))));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 std::source_location where = std::source_location::current()) {
  const int lane = static_cast<int>(machine::lane());
  const int source = lane - static_cast<int>(delta);
  return machine::shuffle(machine::kShuffleUp, where, mask, value,
                          static_cast<unsigned>(source >= (lane & ~(width - 1)) ? source : lane));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   std::source_location where = std::source_location::current()) {
  const int lane = static_cast<int>(machine::lane());
  const int source = lane + static_cast<int>(delta);
  return machine::shuffle(machine::kShuffleDown, where, mask, value,
                          static_cast<unsigned>(source <= (lane | (width - 1)) ? source : lane));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  std::source_location where = std::source_location::current()) {
  const int lane = static_cast<int>(machine::lane());
  const int source = lane ^ lane_mask;
  return machine::shuffle(machine::kShuffleXor, where, mask, value,
                          static_cast<unsigned>(source <= (lane | (width - 1)) ? source : lane));
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return machine::vote(machine::kBallot, where, mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return machine::vote(machine::kAny, where, mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return machine::vote(machine::kAll, where, mask, predicate != 0) == mask;
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, std::source_location where = std::source_location::current()) {
  return machine::match(machine::kMatchAny, where, mask, value);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* predicate,
                          std::source_location where = std::source_location::current()) {
  const bool all = machine::match(machine::kMatchAll, where, mask, value) == mask;
  *predicate = all;
  return all ? mask : 0;
}

template <class T>
concept Reducible = std::is_same_v<T, int> || std::is_same_v<T, unsigned>;

template <Reducible T>
T __reduce_add_sync(unsigned mask, T value, std::source_location where = std::source_location::current()) {
  return machine::reduce(machine::kReduceAdd, where, mask, value);
}
template <Reducible T>
T __reduce_min_sync(unsigned mask, T value, std::source_location where = std::source_location::current()) {
  return machine::reduce(std::is_signed_v<T> ? machine::kReduceMinSigned : machine::kReduceMinUnsigned, where, mask,
                         value);
}
template <Reducible T>
T __reduce_max_sync(unsigned mask, T value, std::source_location where = std::source_location::current()) {
  return machine::reduce(std::is_signed_v<T> ? machine::kReduceMaxSigned : machine::kReduceMaxUnsigned, where, mask,
                         value);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  std::source_location where = std::source_location::current()) {
  return machine::reduce(machine::kReduceAnd, where, mask, value);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 std::source_location where = std::source_location::current()) {
  return machine::reduce(machine::kReduceOr, where, mask, value);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value,
                                  std::source_location where = std::source_location::current()) {
  return machine::reduce(machine::kReduceXor, where, mask, value);
}

}  // namespace moe::simt
