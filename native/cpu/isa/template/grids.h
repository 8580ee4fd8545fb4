// Expanding units of grids to codes, point by point. See kernels.h here, and cpu/gemm/grid_units.h for where units are.

// Eight bits as eight bytes.
inline uint64_t spread_bits(uint8_t bits) {
  constexpr uint64_t each = 0x0101010101010101u;
  return ((bits * each & 0x8040201008040201u) + 0x7f7f7f7f7f7f7f7fu) >> 7 & each;
}

// The numbers of both pairs' first or second points.
template <GridCodes codes>
inline void read_numbers(const uint8_t* group, int point, uint16_t (&numbers)[2 * kPanelColumns]) {
  constexpr int places = 2 * kPanelColumns, upper_bits = GridGroup<codes>::kUpperBits;
  uint8_t upper[places] = {};
  for (int first = 0; first < places && upper_bits > 0; first += 8) {
    uint64_t bytes = 0;
    for (int bit = 0; bit < upper_bits; ++bit) {
      const uint8_t* bits = group + GridGroup<codes>::kUpper * kPanelColumns / 8 + (2 * bit + point) * places / 8;
      bytes |= spread_bits(bits[first / 8]) << bit;
    }
    std::memcpy(upper + first, &bytes, sizeof bytes);
  }
  const uint8_t* const lower = group + point * places;
  for (int i = 0; i < places; ++i) numbers[i] = static_cast<uint16_t>(lower[i] | upper[i] << 8);
}

// Writes the words of a pair. Places and columns run on in fours, see place_in_group().
template <GridCodes codes>
inline void expand_words(const uint16_t* first, const uint16_t* second, const uint8_t* signs, int pair, char* words) {
  constexpr int half_columns = kPanelColumns / 2;
  const uint32_t* const points = point_words<codes>();
  for (int column = 0; column < kPanelColumns; column += 4) {
    const int place = column % half_columns * 4 + 8 * pair + column / half_columns * 4;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      uint32_t word = points[first[place + i]] | points[second[place + i]] << 4;
      if constexpr (codes.coordinates == 4) {
        // Shifted by 0, 9, 18 and 27; see pair_sign_bit().
        word |= signs[place + i] * 0x08040201u & 0x88888888u;
      }
      std::memcpy(words + 4 * (column + i), &word, sizeof word);
    }
  }
}

// The upper plane of a unit, of points whose columns share a sign.
template <GridCodes codes>
inline void expand_one_sign(const uint8_t* group, int unit, char* plane) {
  constexpr int columns = kPanelColumns;
  const uint8_t* signs = group + (GridGroup<codes>::kSigns + 2 * unit) * columns / 8;
  for (int column = 0; column < columns; ++column) {
    const auto sign = [&](int point) { return signs[point * columns / 8 + column / 8] >> column % 8 & 1; };
    // Those of the quads of either point; see plane_bit().
    const auto half = static_cast<uint16_t>(sign(0) * 0x3333 | sign(1) * 0xcccc);
    std::memcpy(plane + 2 * column, &half, sizeof half);
  }
}

template <GridCodes codes>
inline void expand_group(const char* group, char* expanded) {
  using Group = GridGroup<codes>;
  constexpr int columns = kPanelColumns;
  const auto* bytes = reinterpret_cast<const uint8_t*>(group);
  uint16_t first[2 * columns], second[2 * columns];
  read_numbers<codes>(bytes, 0, first);
  read_numbers<codes>(bytes, 1, second);
  for (int pair = 0; pair < 2; ++pair) {
    char* const words = expanded + (codes.coordinates == 4 ? 4 : 6) * pair * columns;
    expand_words<codes>(first, second, bytes + Group::kSigns * columns / 8, pair, words);
    if constexpr (codes.coordinates == 4) continue;
    char* const plane = words + 4 * columns;
    if constexpr (Group::kOneSign) {
      expand_one_sign<codes>(bytes, pair, plane);
    } else {
      std::memcpy(plane, group + Group::kSigns * columns / 8 + 2 * pair * columns, 2 * columns);
    }
  }
}

// See Kernels::expand_grids.
void expand_grids(Grid grid, const char* units, int64_t steps, char* codes) {
  with_grid(grid, [&]<GridCodes own> {
    using Group = GridGroup<own>;
    for (int64_t left = steps * (kGridStep / Group::kK); left > 0; --left) {
      expand_group<own>(units, codes);
      units += Group::bytes(kPanelColumns);
      codes += Group::kExpandedBits * kPanelColumns / 8;
    }
  });
}
