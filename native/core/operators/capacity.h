// How many tokens experts take at most, and the order in which they serve the tokens that chose them; see
// lib/core/operators/capacity.ts.
#pragma once

#include <cstdint>

#include "core/enum.h"
#include "core/float_order.h"
#include "core/operators/routing.h"
#include "core/tensor_view.h"

namespace moe {

MOE_ENUM(Drop, position, prioritized, probability)

// What a token's kept weights are divided by: nothing, their sum, or the sum of the weights of all that it chose.
MOE_ENUM(KeptDivisor, none, kept, chosen)

struct LimitCapacity {
  static constexpr const char* kName = "limitCapacity";

  TensorView ids;
  TensorView weights;
  TensorView kept_ids;
  TensorView kept_weights;
  int64_t experts = 0;
  int64_t capacity = 0;         // tokens that an expert takes from a sequence
  int64_t sequence_length = 1;  // divides T
  Drop drop = Drop::position;
  KeptDivisor divisor = KeptDivisor::none;
  float scale = 1.0f;  // applied after the division

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &LimitCapacity::ids, "[T, k] i32");
    f.input("weights", &LimitCapacity::weights, "[T, k] f32");
    f.output("keptIds", &LimitCapacity::kept_ids, "[T, k] i32");
    f.output("keptWeights", &LimitCapacity::kept_weights, "[T, k] f32");
    f.value("numExperts", &LimitCapacity::experts);
    f.value("capacity", &LimitCapacity::capacity);
    f.value("sequenceLength", &LimitCapacity::sequence_length);
    f.value("drop", &LimitCapacity::drop);
    f.value("divisor", &LimitCapacity::divisor);
    f.value("scale", &LimitCapacity::scale);
  }

  Status check() const {
    const int64_t tokens = ids.shape[0];
    MOE_TRY(expect_sizes(experts >= 1 && experts < INT32_MAX && capacity >= 0 && sequence_length >= 1 &&
                             tokens % sequence_length == 0 && ids.size() <= INT32_MAX,
                         "limitCapacity: expected experts, a capacity and sequences that fit the tokens"));
    // Every pair of them needs a number, and their bytes must not overflow.
    constexpr int64_t kMostPairs = int64_t{1} << 40;
    if (tokens / sequence_length <= kMostPairs / experts) return {};
    return {Code::out_of_memory, "limitCapacity: no memory for more than 2^40 pairs of a sequence and an expert"};
  }
};

struct ExpertSlots {
  static constexpr const char* kName = "expertSlots";

  TensorView ids;
  TensorView slots;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &ExpertSlots::ids, "[T, k] i32");
    f.output("slots", &ExpertSlots::slots, "[E, C] i32");
  }

  // Without choices T may be any number, with no memory behind it.
  int64_t tokens() const { return ids.shape[1] == 0 ? 0 : ids.shape[0]; }

  Status check() const {
    return expect_sizes(ids.size() <= INT32_MAX, "expertSlots: expected fewer than 2^31 choices");
  }
};

struct ExpertChoice {
  static constexpr const char* kName = "expertChoice";

  TensorView logits;
  TensorView tokens;  // C <= T
  TensorView token_weights;
  TensorView ids;
  TensorView weights;
  ExpertScoring scoring = ExpertScoring::softmax;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &ExpertChoice::logits, "[T, E] float");
    f.output("tokens", &ExpertChoice::tokens, "[E, C] i32");
    f.output("tokenWeights", &ExpertChoice::token_weights, "[E, C] f32");
    f.output("ids", &ExpertChoice::ids, "[T, E] i32");
    f.output("weights", &ExpertChoice::weights, "[T, E] f32");
    f.value("scoring", &ExpertChoice::scoring);
  }

  Status check() const {
    return expect_sizes(tokens.shape[1] <= logits.shape[0] && logits.size() <= INT32_MAX,
                        "expertChoice: expected a capacity of at most T and fewer than 2^31 logits");
  }
};

// Numbers a routing's choices in the order in which an expert serves them: lower numbers go first, and all are
// distinct.
struct ServingOrder {
  Drop drop;
  int64_t tokens;
  int64_t top_k;

  // `weight` is the choice's own, `largest` the largest of its token's choices, both as descending_order().
  MOE_HOST_DEVICE uint64_t number(int64_t token, int64_t slot, uint32_t weight, uint32_t largest) const {
    const auto count = static_cast<uint64_t>(tokens);
    const auto by_slot = static_cast<uint64_t>(slot);
    const auto by_token = static_cast<uint64_t>(token);
    switch (drop) {
      case Drop::position: return by_slot * count + by_token;
      case Drop::prioritized: return (by_slot << 32 | largest) * count + by_token;
      default: return (uint64_t{weight} * count + by_token) * static_cast<uint64_t>(top_k) + by_slot;
    }
  }
  // Bits of the largest number: at most 63, because T * k is below 2^31.
  int bits() const {
    uint64_t limit = static_cast<uint64_t>(tokens * top_k);
    if (drop != Drop::position) limit <<= 32;
    int bits = 0;
    while (bits < 64 && limit >> bits != 0) ++bits;
    return bits;
  }
};

}  // namespace moe
