// Where a panel keeps units of a grid (see GridCodes): those of 64 k of all columns, then of the next 64. First the
// lower eight bits of the numbers of points, [point][column]. Then what numbers have above these, with the sign of all
// eight columns above that, if there is one: fields of [column] with as many points as fit into two bytes. Then each
// column's signs, [unit of panel_codes.h][column].
//
// Before products, they are expanded to the codes that panel_codes.h describes, so that no kernel knows a grid.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "core/formats/grids.h"
#include "cpu/gemm/panel_codes.h"

namespace moe::cpu {

constexpr int kGridStep = 64;

template <GridCodes codes>
struct GridStep {
  static constexpr int kUnits = kGridStep / 8;
  // Of a column.
  static constexpr int kPoints = kGridStep / codes.coordinates;
  // Of a point, above the lower eight.
  static constexpr int kUpperBits = codes.number_bits - 8 + (codes.sign_bits == 1 ? 1 : 0);
  static constexpr int kFieldBytes = kPoints * kUpperBits > 8 ? 2 : 1;
  static constexpr int kFields = kPoints * kUpperBits / (8 * kFieldBytes);
  static constexpr int kFieldPoints = kFields == 0 ? kPoints : kPoints / kFields;
  // Places and sizes, in bytes of a column.
  static constexpr int kUpper = kPoints;
  static constexpr int kSigns = kUpper + kFields * kFieldBytes;
  static constexpr int kBytes = kSigns + (codes.sign_bits == 8 ? kGridStep / 8 : 0);
};

// use<codes>() for the codes of a grid.
template <class Use>
constexpr decltype(auto) with_grid(Grid grid, Use&& use) {
  switch (grid) {
    case Grid::none:
    case Grid::iq1: break;
    case Grid::iq2_xxs: return use.template operator()<kIQ2XXSGrid>();
    case Grid::iq2_xs: return use.template operator()<kIQ2XSGrid>();
    case Grid::iq2_s: return use.template operator()<kIQ2SGrid>();
    case Grid::iq3_xxs: return use.template operator()<kIQ3XXSGrid>();
    case Grid::iq3_s: return use.template operator()<kIQ3SGrid>();
  }
  return use.template operator()<kIQ1Grid>();
}

constexpr int64_t grid_step_bytes(Grid grid) {
  return with_grid(grid, []<GridCodes codes> { return int64_t{GridStep<codes>::kBytes}; });
}

// The bit of code `k` of a unit of panel_codes.h among its column's 16 signs: that of the upper plane; or, where codes
// have four bits and no upper plane, so that a shift moves every fourth sign to the highest bits of half a word's
// codes.
constexpr int sign_bit_of(int coordinates, int k) {
  if (coordinates == 8) return plane_bit(1, k);
  const int bit = plane_bit(4, k);
  return bit % 16 / 4 * 4 + 3 - bit / 16;
}

// The coordinates of points as expanding needs them: those of bytes 0, 2, 1 and 3 of a word of panel_codes.h.
template <GridCodes codes>
const uint16_t* arranged_points() {
  struct Points {
    alignas(64) uint16_t points[codes.points()];
    Points() : points{} {
      for (uint32_t i = 0; i < codes.points(); ++i) {
        for (int k = 0; k < codes.coordinates; ++k) {
          constexpr int kWidth = codes.coordinates == 8 ? 2 : 3;
          const uint32_t coordinate = grid_points(codes.grid)[i] >> k * codes.spacing() & ((1u << kWidth) - 1u);
          const int bit = plane_bit(codes.coordinates == 8 ? 2 : 4, k), byte = bit / 8;
          const int nibble = byte % 2 * 2 + byte / 2;
          points[i] = static_cast<uint16_t>(points[i] | coordinate << (4 * nibble + bit % 8));
        }
      }
    }
  };
  static const Points made;
  return made.points;
}

}  // namespace moe::cpu
