// Random numbers and noisy gating; see lib/core/operators/noise.ts.
#pragma once

#include <cstdint>

#include "core/enum.h"
#include "core/operators/fields.h"

namespace moe {

MOE_ENUM(Distribution, uniform, normal)

struct Random {
  static constexpr const char* kName = "random";

  uint64_t seed = 0;
  int64_t offset = 0;  // of the first value in the seed's sequence
  Distribution distribution = Distribution::uniform;
  TensorView values;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("seed", &Random::seed);
    f.value("offset", &Random::offset);
    f.value("distribution", &Random::distribution);
    f.output("values", &Random::values, "[...] f32");
  }

  Status check() const { return expect_sizes(offset >= 0, "random: expected an offset of at least 0"); }
};

struct Jitter {
  static constexpr const char* kName = "jitter";

  TensorView x;
  uint64_t seed = 0;
  float epsilon = 0.0f;
  TensorView y;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &Jitter::x, "[T, H] D");
    f.value("seed", &Jitter::seed);
    f.value("epsilon", &Jitter::epsilon);
    f.output("y", &Jitter::y, "[T, H] D");
  }
};

struct NoisyLogits {
  static constexpr const char* kName = "noisyLogits";

  TensorView clean;
  TensorView spread;
  TensorView noise;
  float epsilon = 0.0f;
  TensorView logits;
  TensorView deviation;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("clean", &NoisyLogits::clean, "[T, E] f32");
    f.input("spread", &NoisyLogits::spread, "[T, E] f32");
    f.input("noise", &NoisyLogits::noise, "[T, E] f32");
    f.value("epsilon", &NoisyLogits::epsilon);
    f.output("logits", &NoisyLogits::logits, "[T, E] f32");
    f.output("deviation", &NoisyLogits::deviation, "[T, E] f32");
  }
};

// expertLoad and its gradient have the same groups: one without a hierarchical gate.
template <class Load>
int64_t load_groups(const Load& p) {
  return p.group_load.absent() ? 1 : p.group_load.shape[0];
}

template <class Load>
Status check_load(const Load& p, const char* message) {
  const int64_t experts = p.clean.shape[1], groups = load_groups(p);
  return expect_sizes(p.group_ids.absent() == p.group_load.absent() && groups >= 1 && experts % groups == 0 &&
                          p.top_k >= 1 && p.top_k <= experts / groups && experts < INT32_MAX,
                      message);
}

struct ExpertLoad {
  static constexpr const char* kName = "expertLoad";

  TensorView clean;
  TensorView noisy;
  TensorView deviation;
  TensorView token_mask;
  int32_t top_k = 1;
  TensorView group_ids;
  TensorView group_load;
  TensorView load;

  int64_t groups() const { return load_groups(*this); }

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("clean", &ExpertLoad::clean, "[T, E] f32");
    f.input("noisy", &ExpertLoad::noisy, "[T, E] f32");
    f.input("deviation", &ExpertLoad::deviation, "[T, E] f32");
    f.optional_input("tokenMask", &ExpertLoad::token_mask, "[T] u8");
    f.value("topK", &ExpertLoad::top_k);
    f.optional_input("groupIds", &ExpertLoad::group_ids, "[T, k] i32");
    f.optional_input("groupLoad", &ExpertLoad::group_load, "[G] f32");
    f.output("load", &ExpertLoad::load, "[E] f32");
  }

  Status check() const {
    return check_load(*this, "expertLoad: expected groups that divide the experts, and topK of those of a group");
  }
};

// Tokens in a block: probabilities are added up within each block, then over the blocks.
constexpr int kLoadBlock = 64;

}  // namespace moe
