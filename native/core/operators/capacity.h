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

  TensorView ids;           // [T, k] i32
  TensorView weights;       // [T, k] f32
  TensorView kept_ids;      // [T, k] i32
  TensorView kept_weights;  // [T, k] f32
  int64_t experts = 0;
  int64_t capacity = 0;         // tokens that an expert takes from a sequence
  int64_t sequence_length = 1;  // divides T
  Drop drop = Drop::position;
  KeptDivisor divisor = KeptDivisor::none;
  float scale = 1.0f;  // applied after the division

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &LimitCapacity::ids);
    f.input("weights", &LimitCapacity::weights);
    f.output("keptIds", &LimitCapacity::kept_ids);
    f.output("keptWeights", &LimitCapacity::kept_weights);
    f.value("numExperts", &LimitCapacity::experts);
    f.value("capacity", &LimitCapacity::capacity);
    f.value("sequenceLength", &LimitCapacity::sequence_length);
    f.value("drop", &LimitCapacity::drop);
    f.value("divisor", &LimitCapacity::divisor);
    f.value("scale", &LimitCapacity::scale);
  }
};

struct ExpertSlots {
  static constexpr const char* kName = "expertSlots";

  TensorView ids;    // [T, k] i32
  TensorView slots;  // [E, C] i32

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &ExpertSlots::ids);
    f.output("slots", &ExpertSlots::slots);
  }
};

struct ExpertChoice {
  static constexpr const char* kName = "expertChoice";

  TensorView logits;         // [T, E] float
  TensorView tokens;         // [E, C] i32, C <= T
  TensorView token_weights;  // [E, C] f32
  TensorView ids;            // [T, E] i32
  TensorView weights;        // [T, E] f32
  ExpertScoring scoring = ExpertScoring::softmax;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &ExpertChoice::logits);
    f.output("tokens", &ExpertChoice::tokens);
    f.output("tokenWeights", &ExpertChoice::token_weights);
    f.output("ids", &ExpertChoice::ids);
    f.output("weights", &ExpertChoice::weights);
    f.value("scoring", &ExpertChoice::scoring);
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
