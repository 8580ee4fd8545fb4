// Random numbers as a function of seed and position, so that any device or thread can draw any of them independently.
// lib/operators/noise/random.ts defines the sequences.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace moe {

struct RandomWords {
  uint32_t of[4];
};

// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
MOE_HOST_DEVICE inline RandomWords philox(RandomWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xd2511f53u} * counter.of[0];
    const uint64_t product1 = uint64_t{0xcd9e8d57u} * counter.of[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.of[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.of[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return counter;
}

constexpr int kRandomLanes = 4;

// The midpoint of one of 2^23 equal parts of (0, 1): 24 bits, so it is exact.
MOE_HOST_DEVICE inline float uniform_from_bits(uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f;
}

// Numbers 4 * counter .. 4 * counter + 3 of the uniform sequence of a seed.
MOE_HOST_DEVICE inline void draw_uniform(uint64_t seed, uint64_t counter, float (&numbers)[kRandomLanes]) {
  const RandomWords words = philox({{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0}},
                                   static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  for (int lane = 0; lane < kRandomLanes; ++lane) numbers[lane] = uniform_from_bits(words.of[lane]);
}

// The same for the normal sequence.
MOE_HOST_DEVICE inline void draw_normal(uint64_t seed, uint64_t counter, float (&numbers)[kRandomLanes]) {
  draw_uniform(seed, counter, numbers);
  for (int lane = 0; lane < kRandomLanes; lane += 2) {
    const float radius = sqrtf(-2.0f * logf(numbers[lane]));
    // Half a turn less, which flips both signs: smaller angles are more precise.
    const float angle = 6.283185307179586f * (numbers[lane + 1] - 0.5f);
    numbers[lane] = -radius * cosf(angle);
    numbers[lane + 1] = -radius * sinf(angle);
  }
}

// Maps a uniform number to a jitter factor in 1 - epsilon .. 1 + epsilon.
MOE_HOST_DEVICE inline float jitter_factor(float uniform, float epsilon) {
  return 1.0f + epsilon * (2.0f * uniform - 1.0f);
}

}  // namespace moe
