// Every instruction set's kernels that measure routers and draw noise, against double precision.
#include <cmath>
#include <vector>

#include "check.h"
#include "cpu/isa/isa.h"
#include "random.h"

namespace {

using namespace moe;
using namespace moe::cpu;

bool close(double actual, double expected, double tolerance) {
  return actual == expected || std::fabs(actual - expected) <= tolerance * std::fabs(expected);
}

}  // namespace

MOE_TEST(scores_of_long_rows_stay_precise) {
  test::Random random(3);
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t experts : {1, 15, 16, 17, 513, 100000}) {
      const std::vector<float> logits = random.values(experts);
      std::vector<float> scores(logits.size(), NAN), sigmoids(logits.size(), NAN);
      double sum = 0, weighted = 0, sigmoid_sum = 0;
      for (const double logit : logits) {
        sum += std::exp(logit);
        weighted += std::exp(logit) * logit;
        sigmoid_sum += 1 / (1 + std::exp(-logit));
      }
      const SoftmaxRow row = kernels->softmax_scores(logits.data(), experts, scores.data());
      kernels->sigmoid_scores(logits.data(), experts, true, sigmoids.data());
      MOE_CHECK(std::fabs(row.log_sum_exp - std::log(sum)) < 1e-6);
      MOE_CHECK(std::fabs(row.entropy - (std::log(sum) - weighted / sum)) < 1e-6);
      for (size_t e = 0; e < logits.size(); ++e) {
        MOE_CHECK(close(scores[e], std::exp(double{logits[e]}) / sum, 1e-6));
        MOE_CHECK(close(sigmoids[e], 1 / (1 + std::exp(-double{logits[e]})) / sigmoid_sum, 1e-6));
      }
    }
  }
}

MOE_TEST(probabilities_keep_their_digits_in_the_tails) {
  const int32_t count = 401;
  // The second-largest noisy logit is 0, the threshold of the only expert above it. That of all others is 1.
  std::vector<float> noisy(count, 0.0f), clean(count), deviation(count, 0.5f);
  noisy[7] = 1.0f;
  for (int32_t e = 0; e < count; ++e) clean[e] = 1.0f + static_cast<float>(e - 200) / 32;
  std::vector<int32_t> scratch(load_scratch(count));
  for (const Kernels* kernels : available_kernels()) {
    std::vector<double> sums(count, 1.0);
    std::vector<double> added(count, 0.0);
    kernels->add_load(clean.data(), noisy.data(), deviation.data(), count, 1, added.data(), scratch.data());
    kernels->add_load(clean.data(), noisy.data(), deviation.data(), count, 1, sums.data(), scratch.data());
    for (int32_t e = 0; e < count; ++e) {
      const double z = (double{clean[e]} - (e == 7 ? 0.0 : 1.0)) / 0.5;
      MOE_CHECK(close(added[e], 0.5 * std::erfc(-z / std::sqrt(2.0)), 2e-5));
      MOE_CHECK_EQUAL(sums[e], 1.0 + added[e]);
    }
  }
}

MOE_TEST(probabilities_of_what_is_no_number_are_0) {
  const float inf = INFINITY;
  const std::vector<float> noisy = {NAN, 2, -inf, inf, 0}, clean = {NAN, inf, -inf, inf, 0},
                           deviation = {1, 1, 1, 1, 0};
  std::vector<int32_t> scratch(load_scratch(5));
  for (const Kernels* kernels : available_kernels()) {
    std::vector<double> sums(5, 0.0);
    // Thresholds: infinity and 2.
    kernels->add_load(clean.data(), noisy.data(), deviation.data(), 5, 1, sums.data(), scratch.data());
    MOE_CHECK(sums == (std::vector<double>{0, 0, 0, 1, 0}));
  }
}

MOE_TEST(random_numbers_are_those_of_their_counter) {
  for (const Kernels* kernels : available_kernels()) {
    for (const uint64_t counter : {uint64_t{0}, uint64_t{0xffffffe0}, uint64_t{1} << 61}) {
      std::vector<float> uniform(kCountersAtOnce * kRandomLanes, NAN), normal(uniform);
      kernels->draw(42, Distribution::uniform, counter, uniform.data());
      kernels->draw(42, Distribution::normal, counter, normal.data());
      for (int i = 0; i < kCountersAtOnce; ++i) {
        float expected[kRandomLanes];
        draw_uniform(42, counter + static_cast<uint64_t>(i), expected);
        for (int lane = 0; lane < kRandomLanes; ++lane) {
          MOE_CHECK_EQUAL(uniform[i * kRandomLanes + lane], expected[lane]);
          const double radius = std::sqrt(-2 * std::log(double{expected[lane & 2]}));
          const double angle = 2 * M_PI * expected[lane | 1];
          const double value = radius * (lane % 2 == 0 ? std::cos(angle) : std::sin(angle));
          MOE_CHECK(std::fabs(normal[i * kRandomLanes + lane] - value) < 1e-6);
        }
      }
    }
  }
}

MOE_TEST(noise_of_any_spread) {
  const float inf = INFINITY;
  const std::vector<float> spread = {-inf, -90, -20, -1, 0, 1e-3f, 1, 20, 88, 1e30f, inf, 0.5f, -0.5f, 3, 4, 5, NAN};
  const auto count = static_cast<int64_t>(spread.size());
  const std::vector<float> clean(spread.size(), 1.0f), noise(spread.size(), -2.0f);
  for (const Kernels* kernels : available_kernels()) {
    std::vector<float> logits(spread.size(), NAN), deviation(spread.size(), NAN);
    kernels->add_noise(clean.data(), spread.data(), noise.data(), 0.25f, count, logits.data(), deviation.data());
    for (int64_t i = 0; i + 1 < count; ++i) {
      const double x = spread[i];
      MOE_CHECK(close(deviation[i], (x < 0 ? 0 : x) + std::log1p(std::exp(-std::fabs(x))) + 0.25, 1e-6));
      MOE_CHECK_EQUAL(logits[i], 1.0f - 2.0f * deviation[i]);
    }
    MOE_CHECK(std::isnan(deviation[count - 1]) && std::isnan(logits[count - 1]));
  }
}
