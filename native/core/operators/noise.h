// Random numbers and noisy gating; see lib/core/operators/noise.ts.
#pragma once

#include <cstdint>

#include "core/enum.h"
#include "core/operators/fields.h"
#include "core/token_mask.h"

namespace moe {

MOE_ENUM(Distribution, uniform, normal)

struct Random {
  static constexpr const char* kName = "random";

  uint64_t seed = 0;
  int64_t offset = 0;  // of the first value in the seed's sequence
  Distribution distribution = Distribution::uniform;
  TensorView values;  // any shape, f32

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("seed", &Random::seed);
    f.value("offset", &Random::offset);
    f.value("distribution", &Random::distribution);
    f.output("values", &Random::values);
  }
};

struct Jitter {
  static constexpr const char* kName = "jitter";

  TensorView x;  // [T, H] float
  uint64_t seed = 0;
  float epsilon = 0.0f;
  TensorView y;  // like x

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &Jitter::x);
    f.value("seed", &Jitter::seed);
    f.value("epsilon", &Jitter::epsilon);
    f.output("y", &Jitter::y);
  }
};

struct NoisyLogits {
  static constexpr const char* kName = "noisyLogits";

  TensorView clean;   // [T, E] f32
  TensorView spread;  // [T, E] f32
  TensorView noise;   // [T, E] f32
  float epsilon = 0.0f;
  TensorView logits;     // [T, E] f32
  TensorView deviation;  // [T, E] f32

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("clean", &NoisyLogits::clean);
    f.input("spread", &NoisyLogits::spread);
    f.input("noise", &NoisyLogits::noise);
    f.value("epsilon", &NoisyLogits::epsilon);
    f.output("logits", &NoisyLogits::logits);
    f.output("deviation", &NoisyLogits::deviation);
  }
};

struct ExpertLoad {
  static constexpr const char* kName = "expertLoad";

  TensorView clean;       // [T, E] f32
  TensorView noisy;       // [T, E] f32
  TensorView deviation;   // [T, E] f32
  TensorView token_mask;  // [T] u8, or absent
  int32_t top_k = 1;
  TensorView group_ids;   // [T, k1] i32, or absent
  TensorView group_load;  // [G] f32, or absent
  TensorView load;        // [E] f32

  int64_t groups() const { return group_load.absent() ? 1 : group_load.shape[0]; }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("clean", &ExpertLoad::clean);
    f.input("noisy", &ExpertLoad::noisy);
    f.input("deviation", &ExpertLoad::deviation);
    f.optional_input("tokenMask", &ExpertLoad::token_mask);
    f.value("topK", &ExpertLoad::top_k);
    f.optional_input("groupIds", &ExpertLoad::group_ids);
    f.optional_input("groupLoad", &ExpertLoad::group_load);
    f.output("load", &ExpertLoad::load);
  }
};

// Tokens in a block: probabilities are added up within each block, then over the blocks.
constexpr int kLoadBlock = 64;

}  // namespace moe
