// Random products of tiles, for tests of the tile instructions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/isa/tiles/tile_configuration.h"
#include "random.h"

namespace moe::test {

using TileBytes = uint8_t[cpu::kTileRegisterRows][cpu::kTileRegisterBytes];

// c [rows, columns] and a [rows, depth] and b [depth, columns], in units of 4 bytes.
struct TileProblem {
  int rows, depth, columns;
  TileBytes a = {}, b = {}, c = {};

  cpu::TileConfiguration shapes(int tile_c, int tile_a, int tile_b) const {
    cpu::TileConfiguration all;
    all.set(tile_c, rows, 4 * columns);
    all.set(tile_a, rows, 4 * depth);
    all.set(tile_b, depth, 4 * columns);
    return all;
  }
};

// c after one instruction; bytes that it must not write are 0x55.
template <class Tiles, int c, int a, int b, bool integers>
std::vector<uint8_t> multiplied(const TileProblem& problem) {
  constexpr int64_t kStride = 80;
  std::vector<uint8_t> result(cpu::kTileRegisterRows * kStride, 0x55);
  Tiles::configure(problem.shapes(c, a, b));
  Tiles::template load<c>(problem.c, sizeof problem.c[0]);
  Tiles::template load<a>(problem.a, sizeof problem.a[0]);
  Tiles::template stream<b>(problem.b, sizeof problem.b[0]);
  if constexpr (integers) {
    Tiles::template multiply_i8<c, a, b>();
  } else {
    Tiles::template multiply_bf16<c, a, b>();
  }
  Tiles::template store<c>(result.data(), kStride);
  Tiles::release();
  return result;
}

// Equal bits, or NaN both.
inline bool same_floats(const std::vector<uint8_t>& one, const std::vector<uint8_t>& other) {
  for (size_t i = 0; i < one.size(); i += sizeof(float)) {
    float x, y;
    std::memcpy(&x, &one[i], sizeof x);
    std::memcpy(&y, &other[i], sizeof y);
    if (std::memcmp(&x, &y, sizeof x) != 0 && !(std::isnan(x) && std::isnan(y))) return false;
  }
  return true;
}

enum class TileValues { any, ordinary, small, large, special };
constexpr TileValues kTileValues[] = {TileValues::any, TileValues::ordinary, TileValues::small, TileValues::large,
                                      TileValues::special};

// The bits of a bfloat16: ordinary ones multiply exactly in float32, others become subnormal, infinite or NaN.
inline uint16_t bf16_bits(Random& random, TileValues values) {
  constexpr uint16_t kSpecial[] = {0x0000, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0xff81,
                                   0x0001, 0x807f, 0x0080, 0x8080, 0x7f7f, 0xff7f, 0x2000, 0xa000};
  const uint32_t bits = random.next();
  const auto exponent = [&](int64_t first, int64_t count) {
    return static_cast<uint16_t>((bits & 0x807f) | (first + random.below(count)) << 7);
  };
  switch (values) {
    case TileValues::any: return static_cast<uint16_t>(bits);
    case TileValues::ordinary: return exponent(120, 14);
    case TileValues::small: return exponent(58, 10);
    case TileValues::large: return exponent(184, 8);
    default: return kSpecial[random.below(16)];
  }
}

inline TileProblem random_tiles(Random& random, TileValues values) {
  const auto size = [&random] { return static_cast<int>(1 + random.below(16)); };
  TileProblem problem{.rows = size(), .depth = size(), .columns = size()};
  const auto fill = [&](TileBytes& bytes, int step) {
    for (auto& row : bytes) {
      for (int i = 0; i < cpu::kTileRegisterBytes; i += step) {
        const uint16_t bits = bf16_bits(random, values);
        std::memcpy(&row[i + step - 2], &bits, sizeof bits);
        const uint16_t low = values == TileValues::special ? 0 : static_cast<uint16_t>(random.next());
        if (step == 4) std::memcpy(&row[i], &low, sizeof low);
      }
    }
  };
  fill(problem.a, 2);
  fill(problem.b, 2);
  fill(problem.c, 4);
  // Sums of small products are near the smallest normal float.
  if (values == TileValues::small) {
    for (auto& row : problem.c) {
      for (int i = 3; i < cpu::kTileRegisterBytes; i += 4) row[i] &= 0x81;
    }
  }
  return problem;
}

}  // namespace moe::test
