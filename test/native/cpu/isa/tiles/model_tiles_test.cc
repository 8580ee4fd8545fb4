#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "extension/cpu/model_registers.h"
#include "tile_problem.h"

namespace {

using namespace moe::cpu;
using namespace moe::test;

#include "extension/cpu/model_tiles.h"

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// One element of c: c plus the products of pairs.
float sum_of(float c, const std::vector<std::array<float, 4>>& pairs_of_a_and_b) {
  TileProblem problem{.rows = 1, .depth = static_cast<int>(pairs_of_a_and_b.size()), .columns = 1};
  const auto put = [](uint8_t* target, float value) {
    const uint16_t bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    std::memcpy(target, &bits, sizeof bits);
  };
  for (size_t k = 0; k < pairs_of_a_and_b.size(); ++k) {
    const auto& [a0, b0, a1, b1] = pairs_of_a_and_b[k];
    put(&problem.a[0][4 * k], a0);
    put(&problem.a[0][4 * k + 2], a1);
    put(&problem.b[k][0], b0);
    put(&problem.b[k][2], b1);
  }
  std::memcpy(problem.c[0], &c, sizeof c);
  float sum;
  std::memcpy(&sum, multiplied<ModelTiles, 0, 1, 2, false>(problem).data(), sizeof sum);
  return sum;
}

// By the library's fused multiply-add.
float fused(float a, float b, float c) {
  const float sum = std::fma(a, b, c);
  const bool subnormal = std::fabs(static_cast<double>(a) * b + c) < 0x1p-126 - 0x1p-151;
  return subnormal ? std::copysign(0.0f, sum) : sum;
}

float normal(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }

std::vector<uint8_t> multiplied_by_fma(const TileProblem& problem) {
  std::vector<uint8_t> result(16 * 80, 0x55);
  const auto value = [](const uint8_t* bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return normal(std::bit_cast<float>(uint32_t{bits} << 16));
  };
  for (int m = 0; m < problem.rows; ++m) {
    for (int n = 0; n < problem.columns; ++n) {
      float c, sums[2] = {};
      std::memcpy(&c, &problem.c[m][4 * n], sizeof c);
      for (int k = 0; k < problem.depth; ++k) {
        for (int i = 0; i < 2; ++i) {
          sums[i] = fused(value(&problem.a[m][4 * k + 2 * i]), value(&problem.b[k][4 * n + 2 * i]), sums[i]);
        }
      }
      const float sum = normal(normal(c) + normal(sums[0] + sums[1]));
      std::memcpy(&result[m * 80 + 4 * n], &sum, sizeof sum);
    }
  }
  return result;
}

template <class Function>
bool refuses(const Function& function) {
  try {
    function();
  } catch (const std::logic_error&) {
    return true;
  }
  return false;
}

TileConfiguration full_shapes() {
  TileConfiguration shapes;
  for (const int tile : {0, 1, 2}) shapes.set(tile, 16, kTileRegisterBytes);
  return shapes;
}

template <class Change>
TileConfiguration changed(const Change& change) {
  TileConfiguration shapes = full_shapes();
  change(shapes);
  return shapes;
}

template <class Change>
bool refuses_shapes(const Change& change) {
  const TileConfiguration shapes = changed(change);
  return refuses([&] { ModelTiles::configure(shapes); });
}

template <class Change>
bool refuses_product(const Change& change) {
  ModelTiles::configure(changed(change));
  return refuses([] { ModelTiles::multiply_bf16<0, 1, 2>(); }) && refuses([] { ModelTiles::multiply_i8<0, 1, 2>(); });
}

MOE_TEST(model_tiles_sum_first_and_second_products_apart_and_then_to_c) {
  MOE_CHECK_EQUAL(sum_of(0.5f, {{2, 3, 5, 7}, {-1, 4, 0.5f, 8}}), 41.5f);
  // 2^24 + 1 rounds to 2^24, once for every product; the two sums of 2 are then added exactly.
  MOE_CHECK_EQUAL(sum_of(0, {{4096, 4096, 1, 1}, {1, 1, 1, 1}, {1, 1, 0, 0}}), 0x1p24f + 2);
  MOE_CHECK_EQUAL(sum_of(0x1p24f, {{1, 1, 0, 0}}), 0x1p24f);
  MOE_CHECK_EQUAL(sum_of(0x1p24f, {{1, 1, 1, 1}}), 0x1p24f + 2);
  // In order of k.
  MOE_CHECK_EQUAL(sum_of(0, {{1, 1, 0, 0}, {4096, 4096, 0, 0}, {-4096, 4096, 0, 0}}), 0.0f);
  MOE_CHECK_EQUAL(sum_of(0, {{4096, 4096, 0, 0}, {-4096, 4096, 0, 0}, {1, 1, 0, 0}}), 1.0f);
}

MOE_TEST(model_tiles_round_products_and_sums_once) {
  constexpr float kSmall = 0x1p-63f;
  // The product alone would be infinite, or lose digits.
  MOE_CHECK_EQUAL(sum_of(0, {{-0x1p64f, 0x1p63f, 0, 0}, {0x1p64f, 0x1p64f, 0, 0}}), 0x1p127f);
  MOE_CHECK_EQUAL(sum_of(0, {{0x1p64f, 0x1p64f, 0, 0}}), kInfinity);
  // Subnormal is what is below 2^-126 after rounding to 24 digits.
  MOE_CHECK_EQUAL(sum_of(0, {{kSmall, kSmall, 0, 0}, {-0x1p-76f, 0x1p-75f, 0, 0}}), 0x1p-126f);
  MOE_CHECK_EQUAL(sum_of(0, {{kSmall, kSmall, 0, 0}, {-0x1p-75f, 0x1p-75f, 0, 0}}), 0.0f);
}

MOE_TEST(model_tiles_flush_subnormal_values) {
  constexpr float kSubnormal = 0x1p-127f;
  MOE_CHECK_EQUAL(sum_of(kSubnormal, {{0, 0, 0, 0}}), 0.0f);
  MOE_CHECK_EQUAL(sum_of(0, {{kSubnormal, 0x1p100f, 1, kSubnormal}}), 0.0f);
  MOE_CHECK_EQUAL(sum_of(0, {{0x1p-64f, 0x1p-63f, 0, 0}}), 0.0f);
  MOE_CHECK_EQUAL(sum_of(0, {{0x1p-64f, 0x1p-63f, 0, 0}, {0x1p-63f, 0x1p-63f, 0, 0}}), 0x1p-126f);
  MOE_CHECK_EQUAL(sum_of(0, {{0x1.8p-63f, 0x1p-63f, -0x1p-63f, 0x1p-63f}}), 0.0f);
  MOE_CHECK_EQUAL(sum_of(-0x1p-126f, {{0x1.8p-63f, 0x1p-63f, 0, 0}}), 0.0f);
  // Subnormal operands are zeros: infinity times them is NaN.
  MOE_CHECK(std::isnan(sum_of(0, {{kSubnormal, kInfinity, 0, 0}})));
}

MOE_TEST(model_tiles_have_infinities_and_nan) {
  MOE_CHECK_EQUAL(sum_of(1, {{-1, kInfinity, 0, 0}}), -kInfinity);
  MOE_CHECK(std::isnan(sum_of(1, {{1, kInfinity, 1, -kInfinity}})));
  MOE_CHECK(std::isnan(sum_of(kInfinity, {{1, -kInfinity, 0, 0}})));
  MOE_CHECK(std::isnan(sum_of(1, {{0, kNan, 0, 0}})));
  MOE_CHECK(std::isnan(sum_of(kNan, {{0, 0, 0, 0}})));
}

MOE_TEST(model_tiles_multiply_like_fused_multiply_adds_of_any_values) {
  Random random(3);
  for (int i = 0; i < 500; ++i) {
    const TileProblem problem = random_tiles(random, kTileValues[i % std::size(kTileValues)]);
    const std::vector<uint8_t> expected = multiplied_by_fma(problem);
    MOE_CHECK((same_floats(multiplied<ModelTiles, 0, 1, 2, false>(problem), expected)));
    MOE_CHECK((same_floats(multiplied<ModelTiles, 7, 0, 3, false>(problem), expected)));
  }
}

MOE_TEST(model_tiles_multiply_bytes_with_integers_that_wrap_around) {
  TileProblem problem{.rows = 1, .depth = 2, .columns = 2};
  constexpr int8_t a[8] = {1, -2, 3, -4, -128, -128, -128, -128};
  constexpr int8_t b[2][8] = {{5, 6, 7, -8, -1, -1, -1, -1}, {-128, -128, -128, -128, 127, 127, 127, 127}};
  constexpr int32_t c[2] = {2147483647, -2147483647 - 1};
  std::memcpy(problem.a[0], a, sizeof a);
  for (int k = 0; k < 2; ++k) std::memcpy(problem.b[k], b[k], sizeof b[k]);
  std::memcpy(problem.c[0], c, sizeof c);
  int32_t sums[2];
  std::memcpy(sums, (multiplied<ModelTiles, 4, 5, 6, true>(problem).data()), sizeof sums);
  MOE_CHECK_EQUAL(sums[0], -2147483647 - 1 + (5 - 12 + 21 + 32 + 65536 - 1));
  MOE_CHECK_EQUAL(sums[1], 2147483647 + (2 - 65024 + 1));
}

MOE_TEST(model_tiles_are_zeros_after_configure_zero_and_beyond_their_shape) {
  const TileProblem ones = [] {
    TileProblem problem{.rows = 16, .depth = 16, .columns = 16};
    std::memset(problem.a, 1, sizeof problem.a);
    return problem;
  }();
  TileConfiguration shapes = full_shapes();
  shapes.rows[1] = 3;
  shapes.column_bytes[1] = 20;
  TileBytes stored;
  ModelTiles::configure(shapes);
  ModelTiles::load<0>(ones.a, 64);
  ModelTiles::load<1>(ones.a, 64);
  std::memset(stored, 0x55, sizeof stored);
  ModelTiles::store<1>(stored, 64);
  for (int row = 0; row < 16; ++row) {
    for (int i = 0; i < 64; ++i) MOE_CHECK_EQUAL(int{stored[row][i]}, row < 3 && i < 20 ? 1 : 0x55);
  }
  const ModelRegister& bytes = ModelRegisters::own().configured(1);
  MOE_CHECK_EQUAL(int{bytes.bytes[2][20]} + bytes.bytes[3][0], 0);
  ModelTiles::zero<0>();
  ModelTiles::store<0>(stored, 64);
  MOE_CHECK_EQUAL(int{stored[0][0]}, 0);
  ModelTiles::load<0>(ones.a, 64);
  ModelTiles::configure(shapes);
  ModelTiles::store<0>(stored, 64);
  MOE_CHECK_EQUAL(int{stored[15][63]}, 0);
  ModelTiles::release();
  MOE_CHECK(refuses([] { ModelTiles::zero<0>(); }));
}

MOE_TEST(model_tiles_belong_to_their_thread) {
  ModelTiles::configure(full_shapes());
  bool configured = true;
  std::thread([&] { configured = !refuses([] { ModelTiles::zero<0>(); }); }).join();
  MOE_CHECK(!configured);
  ModelTiles::zero<0>();
  ModelTiles::release();
}

MOE_TEST(model_tiles_refuse_what_the_cpu_does) {
  using Shapes = TileConfiguration;
  MOE_CHECK(!refuses_shapes([](Shapes&) {}));
  MOE_CHECK(!refuses_shapes([](Shapes& shapes) { shapes.palette = 0; }));
  MOE_CHECK(refuses([] { ModelTiles::zero<0>(); }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.palette = 2; }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.reserved[13] = 1; }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.set(8, 16, 64); }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.rows[0] = 17; }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.column_bytes[0] = 68; }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.rows[0] = 0; }));
  MOE_CHECK(refuses_shapes([](Shapes& shapes) { shapes.column_bytes[0] = 0; }));

  MOE_CHECK(!refuses_product([](Shapes&) {}));
  MOE_CHECK(refuses_product([](Shapes& shapes) { shapes.rows[0] = 15; }));
  MOE_CHECK(refuses_product([](Shapes& shapes) { shapes.rows[1] = 15; }));
  MOE_CHECK(refuses_product([](Shapes& shapes) { shapes.rows[2] = 15; }));
  MOE_CHECK(refuses_product([](Shapes& shapes) { shapes.column_bytes[0] = 60; }));
  MOE_CHECK(refuses_product([](Shapes& shapes) { shapes.column_bytes[1] = 60; }));
  MOE_CHECK(refuses_product([](Shapes& shapes) { shapes.column_bytes[2] = 60; }));

  TileBytes bytes = {};
  ModelTiles::configure(changed([](Shapes& shapes) { shapes.column_bytes[0] = 6; }));
  ModelTiles::zero<0>();
  MOE_CHECK(refuses([&] { ModelTiles::load<0>(bytes, 64); }));
  MOE_CHECK(refuses([&] { ModelTiles::store<0>(bytes, 64); }));
  MOE_CHECK(refuses([&] { ModelTiles::load<3>(bytes, 64); }));
  MOE_CHECK(refuses([&] { ModelTiles::store<3>(bytes, 64); }));
  MOE_CHECK(refuses([] { ModelTiles::zero<3>(); }));
  ModelTiles::release();
}

}  // namespace
