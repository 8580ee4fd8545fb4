// Problem descriptions of random numbers and noisy gating; see problem.h.
#pragma once

#include <cstdint>

#include "core/token_mask.h"

namespace moe {

enum class Distribution : uint8_t { uniform, normal };
inline constexpr const char* kDistributionNames[] = {"uniform", "normal"};

struct Random {
  uint64_t seed = 0;
  int64_t offset = 0;  // of the first value in the seed's sequence
  Distribution distribution = Distribution::uniform;
  TensorView values;  // any shape, f32
};

struct Jitter {
  TensorView x;  // [T, H] float
  uint64_t seed = 0;
  float epsilon = 0.0f;
  TensorView y;  // like x
};

struct NoisyLogits {
  TensorView clean;   // [T, E] f32
  TensorView spread;  // [T, E] f32
  TensorView noise;   // [T, E] f32
  float epsilon = 0.0f;
  TensorView logits;     // [T, E] f32
  TensorView deviation;  // [T, E] f32
};

struct ExpertLoad {
  TensorView clean;       // [T, E] f32
  TensorView noisy;       // [T, E] f32
  TensorView deviation;   // [T, E] f32
  TensorView token_mask;  // [T] u8, or absent
  int32_t top_k = 1;
  TensorView group_ids;   // [T, k1] i32, or absent
  TensorView group_load;  // [G] f32, or absent
  TensorView load;        // [E] f32

  int64_t groups() const { return group_load.absent() ? 1 : group_load.shape[0]; }
};

// Tokens whose probabilities are added up in one go, before the sums of all blocks are.
constexpr int kLoadBlock = 64;

}  // namespace moe
