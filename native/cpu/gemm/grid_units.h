// Where a panel keeps units of a grid (see GridCodes): groups of four points of all columns, so two pairs whose codes
// are two words of panel_codes.h for each column. A group has, of all columns,
//   the lower eight bits of the numbers of both pairs' first points, then of their second ones;
//   for each bit above these, that of the first points, then of the second ones;
//   the signs: of points of eight coordinates as the upper planes of both units, [unit][column] in panel_codes.h; of
//   points of four a byte for each pair; if eight columns share one, [point][column] a bit.
// Bytes and bits of pairs are where place_in_group() says.
//
// Before products, units are expanded to the codes that panel_codes.h describes, so that no kernel knows a grid.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/formats/grids.h"
#include "cpu/gemm/panel_codes.h"

namespace moe::cpu {

// k of whole groups, and of whole bytes of them.
constexpr int kGridStep = 64;

template <GridCodes codes>
struct GridGroup {
  static constexpr int kPoints = 4;
  static constexpr int kK = kPoints * codes.coordinates;
  static constexpr int kUpperBits = codes.number_bits - 8;
  static constexpr bool kOneSign = codes.sign_bits == 1;
  // Of a column: where its bits and its signs begin, and all.
  static constexpr int kUpper = 8 * kPoints;
  static constexpr int kSigns = kUpper + kPoints * kUpperBits;
  static constexpr int kBits = kSigns + (kOneSign ? kPoints : kK);
  // Codes have three or four bits.
  static constexpr int kExpandedBits = kK * (codes.coordinate_bits() + 1);

  static constexpr int64_t bytes(int64_t columns) { return columns * kBits / 8; }
};

// Place of pair 0 or 1 of a column among those of all columns. Instructions that interleave bytes and halves of four
// registers, whose lanes have 16 bytes, then leave the words of each pair in the order of the columns.
constexpr int place_in_group(int columns, int pair, int column) {
  const int half = columns / 2, within = column % half;
  return within / 4 * 16 + (2 * pair + column / half) * 4 + within % 4;
}

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

// Of a column.
constexpr int64_t grid_step_bytes(Grid grid) {
  return with_grid(grid, []<GridCodes codes> {
    static_assert(kGridStep % GridGroup<codes>::kK == 0);
    return int64_t{kGridStep / GridGroup<codes>::kK * GridGroup<codes>::kBits / 8};
  });
}

// The codes of the points of a grid, without signs, as words of panel_codes.h have those of a pair's first one.
template <GridCodes codes>
const uint32_t* point_words() {
  struct Words {
    uint32_t words[codes.points()];
    Words() : words{} {
      constexpr uint32_t kMask = (1u << codes.coordinate_bits()) - 1u;
      for (uint32_t i = 0; i < codes.points(); ++i) {
        for (int k = 0; k < codes.coordinates; ++k) {
          const uint32_t coordinate = grid_points(codes.grid)[i] >> k * codes.spacing() & kMask;
          words[i] |= coordinate << plane_bit(codes.spacing(), k);
        }
      }
    }
  };
  static const Words made;
  return made.words;
}

// The bit of the sign of code k, of a pair's eight, where points have four coordinates: that of byte i of the word
// moves to the highest bits of its codes when it is shifted by i.
constexpr int pair_sign_bit(int k) {
  const int bit = plane_bit(4, k);
  return 3 + bit % 8 - bit / 8;
}

}  // namespace moe::cpu
