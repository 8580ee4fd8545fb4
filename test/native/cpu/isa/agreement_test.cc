// What every instruction set computes as portable code does.
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "cpu/isa/isa.h"
#include "random.h"

namespace {

using namespace moe;
using namespace moe::cpu;

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Calls check(kernels) for all but the portable ones.
template <class Check>
void for_others(Check&& check) {
  for (const Kernels* kernels : available_kernels()) {
    if (kernels != &portable::kKernels) check(*kernels);
  }
}

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
  int32_t without_finite = 0;
};

Choice choose(const Kernels& kernels, const std::vector<float>& logits, int32_t tokens, const GatingRule& rule,
              const float* bias) {
  const auto experts = static_cast<int32_t>(logits.size()) / tokens;
  Choice choice{.ids = std::vector<int32_t>(static_cast<size_t>(tokens * rule.top_k), -7),
                .weights = std::vector<float>(static_cast<size_t>(tokens * rule.top_k), NAN)};
  std::vector<int32_t> scratch(static_cast<size_t>(gate_scratch(experts)));
  choice.without_finite = kernels.gate(logits.data(), tokens, experts, rule, bias, choice.ids.data(),
                                       choice.weights.data(), scratch.data());
  return choice;
}

}  // namespace

MOE_TEST(all_numbers_of_16_bits_become_the_same_float32_numbers) {
  std::vector<uint16_t> bits(1 << 16);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const auto count = static_cast<int64_t>(bits.size());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    std::vector<float> expected(bits.size()), values(bits.size());
    portable::kKernels.to_f32(dtype, bits.data(), count, expected.data());
    for_others([&](const Kernels& kernels) {
      kernels.to_f32(dtype, bits.data(), count, values.data());
      for (size_t i = 0; i < values.size(); ++i) {
        MOE_CHECK(values[i] == expected[i] ? std::signbit(values[i]) == std::signbit(expected[i])
                                           : std::isnan(values[i]) && std::isnan(expected[i]));
      }
    });
  }
}

MOE_TEST(numbers_between_those_of_16_bits_are_rounded_in_the_same_way) {
  // A number of 16 bits, the middle to the next one, and what is just above and below both.
  std::vector<float> values;
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (uint32_t i = 0; i < 0xffff; i += 7) {
      const uint16_t pair[] = {static_cast<uint16_t>(i), static_cast<uint16_t>(i + 1)};
      float ends[2];
      portable::kKernels.to_f32(dtype, pair, 2, ends);
      const float middle = ends[0] + (ends[1] - ends[0]) / 2;
      if (!std::isfinite(middle)) continue;
      for (const float x : {ends[0], middle}) {
        values.insert(values.end(), {x, std::nextafterf(x, INFINITY), std::nextafterf(x, -INFINITY)});
      }
    }
  }
  const auto count = static_cast<int64_t>(values.size());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    std::vector<uint16_t> expected(values.size()), rounded(values.size());
    portable::kKernels.from_f32(dtype, values.data(), count, expected.data());
    for_others([&](const Kernels& kernels) {
      kernels.from_f32(dtype, values.data(), count, rounded.data());
      MOE_CHECK(same_bits(rounded, expected));
    });
  }
}

MOE_TEST(tokens_are_rounded_to_the_same_codes) {
  struct Row {
    int64_t count;
    float factor;
  };
  constexpr Row rows[] = {{1, 1.0f},     {7, 1.0f},       {300, 1.0f},   {20000, 3.0f},
                          {300, 1e-41f}, {20000, 1e-22f}, {20000, 1e37f}};
  test::Random random(21);
  for (const TokenFormat format : {TokenFormat::int8, TokenFormat::fp8, TokenFormat::fp8_ue8m0}) {
    for (const int columns : {0, 128}) {
      for (const Row& row : rows) {
        const int64_t count = row.count;
        const TokenScheme scheme{format, columns};
        std::vector<float> values = random.values(count);
        for (float& value : values) value *= row.factor;
        std::vector<float> expected = values, scales(static_cast<size_t>(scheme.scales_of(count)));
        portable::kKernels.round_tokens(scheme, values.data(), count, expected.data(), scales.data());
        for_others([&](const Kernels& kernels) {
          std::vector<float> rounded = values, own_scales(scales.size());
          kernels.round_tokens(scheme, rounded.data(), count, rounded.data(), own_scales.data());
          MOE_CHECK(same_bits(own_scales, scales));
          MOE_CHECK(same_bits(rounded, expected));
        });
      }
    }
  }
}

MOE_TEST(the_same_experts_are_chosen) {
  test::Random random(22);
  for (const int32_t experts : {4, 8, 20, 64, 130}) {
    for (const int32_t tokens : {1, 3, kGateTokens}) {
      std::vector<float> logits = random.values(int64_t{tokens} * experts);
      for (float& logit : logits) {
        const int64_t kind = random.below(40);
        if (kind == 0) logit = NAN;
        if (kind == 1) logit = random.below(2) == 0 ? INFINITY : -INFINITY;
        if (kind < 20) logit = std::round(8 * logit) / 8;  // ties
      }
      std::fill_n(logits.data(), experts, NAN);  // no number in the first row
      const std::vector<float> bias = random.values(experts);
      for (const Scoring scoring : {Scoring::softmax, Scoring::softmax_selected, Scoring::sigmoid,
                                    Scoring::sqrt_softplus, Scoring::none, Scoring::sparsemixer}) {
        for (const int32_t top_k : {1, 2, 4}) {
          const GatingRule rule{
              .top_k = top_k, .scoring = scoring, .normalization = Normalization::sum, .jitter = 0.1f};
          const bool biased = scoring == Scoring::sigmoid;
          const Choice expected = choose(portable::kKernels, logits, tokens, rule, biased ? bias.data() : nullptr);
          for_others([&](const Kernels& kernels) {
            const Choice choice = choose(kernels, logits, tokens, rule, biased ? bias.data() : nullptr);
            MOE_CHECK(choice.ids == expected.ids);
            MOE_CHECK_EQUAL(choice.without_finite, expected.without_finite);
            for (size_t i = 0; i < choice.weights.size(); ++i) {
              MOE_CHECK(choice.weights[i] == expected.weights[i] ||
                        std::fabs(choice.weights[i] - expected.weights[i]) < 2e-6f);
            }
          });
        }
      }
    }
  }
}

MOE_TEST(the_same_uniform_numbers_are_drawn_and_normal_ones_within_rounding) {
  constexpr size_t kNumbers = kCountersAtOnce * kRandomLanes;
  for (const uint64_t counter : {uint64_t{0}, uint64_t{0xffffffe0}}) {
    for (const Distribution distribution : {Distribution::uniform, Distribution::normal}) {
      std::vector<float> expected(kNumbers), drawn(kNumbers);
      portable::kKernels.draw(0x123456789abcdefu, distribution, counter, expected.data());
      for_others([&](const Kernels& kernels) {
        kernels.draw(0x123456789abcdefu, distribution, counter, drawn.data());
        if (distribution == Distribution::uniform) MOE_CHECK(same_bits(drawn, expected));
        for (size_t i = 0; i < kNumbers; ++i) MOE_CHECK(std::fabs(drawn[i] - expected[i]) < 2e-6f);
      });
    }
  }
}
