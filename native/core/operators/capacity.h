// Descriptions of the operators that limit what experts take, and the order in which choices are served; see
// lib/operators/routing/limit_capacity.ts, expert_slots.ts and expert_choice.ts.
#pragma once

#include <cstdint>

#include "core/float_order.h"
#include "core/tensor_view.h"

namespace moe {

enum class Drop : uint8_t { position, prioritized, probability };
inline constexpr const char* kDropNames[] = {"position", "prioritized", "probability"};

// What a token's kept weights are divided by: nothing, their sum, or the sum of the weights of all that it chose.
enum class KeptDivisor : uint8_t { none, kept, chosen };
inline constexpr const char* kKeptDivisorNames[] = {"none", "kept", "chosen"};

struct LimitCapacity {
  TensorView ids;           // [T, k] i32
  TensorView weights;       // [T, k] f32
  TensorView kept_ids;      // [T, k] i32
  TensorView kept_weights;  // [T, k] f32
  int64_t experts = 0;
  int64_t capacity = 0;         // choices that an expert takes from a sequence
  int64_t sequence_length = 1;  // divides T
  Drop drop = Drop::position;
  KeptDivisor divisor = KeptDivisor::none;
  float scale = 1.0f;  // behind the division
};

struct ExpertSlots {
  TensorView ids;    // [T, k] i32
  TensorView slots;  // [E, C] i32
};

enum class ExpertScoring : uint8_t { softmax, sigmoid };
inline constexpr const char* kExpertScoringNames[] = {"softmax", "sigmoid"};

struct ExpertChoice {
  TensorView logits;         // [T, E] float
  TensorView tokens;         // [E, C] i32, C <= T
  TensorView token_weights;  // [E, C] f32
  TensorView ids;            // [T, E] i32
  TensorView weights;        // [T, E] f32
  ExpertScoring scoring = ExpertScoring::softmax;
};

// Numbers the choices of a routing in the order in which an expert serves them: the lower goes first, and no two are
// equal.
struct ServingOrder {
  Drop drop;
  int64_t tokens;
  int64_t top_k;

  // `weight` is the choice's own, `largest` that of the token's choices, both as descending_order().
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
  // Bits of the largest number. As T * k is below 2^31, at most 63.
  int bits() const {
    uint64_t limit = static_cast<uint64_t>(tokens * top_k);
    if (drop != Drop::position) limit <<= 32;
    int bits = 0;
    while (bits < 64 && limit >> bits != 0) ++bits;
    return bits;
  }
};

}  // namespace moe
