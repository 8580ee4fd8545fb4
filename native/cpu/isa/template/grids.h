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
  const uint8_t* const lower = group + point * places;
  if constexpr (upper_bits == 0) {
    std::copy_n(lower, places, numbers);
    return;
  }
  for (int first = 0; first < places; first += 8) {
    uint64_t upper = 0;
    for (int bit = 0; bit < upper_bits; ++bit) {
      const uint8_t* bits = group + GridGroup<codes>::kUpper * kPanelColumns / 8 + (2 * bit + point) * places / 8;
      upper |= spread_bits(bits[first / 8]) << bit;
    }
    for (int i = 0; i < 8; ++i) {
      numbers[first + i] = static_cast<uint16_t>(lower[first + i] | (upper >> 8 * i & 0xffu) << 8);
    }
  }
}

// The words of a group's pairs, [pair][column].
template <GridCodes codes>
inline void expand_words(const uint8_t* group, uint32_t (&words)[2][kPanelColumns]) {
  constexpr int columns = kPanelColumns;
  uint16_t first[2 * columns], second[2 * columns];
  read_numbers<codes>(group, 0, first);
  read_numbers<codes>(group, 1, second);
  const uint32_t* const points = point_words<codes>();
  for (int pair = 0; pair < 2; ++pair) {
    for (int column = 0; column < columns; ++column) {
      const int place = place_in_group(columns, pair, column);
      uint32_t word = points[first[place]] | points[second[place]] << 4;
      if constexpr (codes.coordinates == 4) {
        const uint32_t signs = group[GridGroup<codes>::kSigns * columns / 8 + place];
        word |= (signs | signs << 9 | signs << 18 | signs << 27) & 0x88888888u;  // see pair_sign_bit()
      }
      words[pair][column] = word;
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
  uint32_t words[2][columns];
  expand_words<codes>(bytes, words);
  for (int pair = 0; pair < 2; ++pair) {
    char* const unit = expanded + (codes.coordinates == 4 ? 4 : 6) * pair * columns;
    std::memcpy(unit, words[pair], sizeof words[pair]);
    if constexpr (codes.coordinates == 4) continue;
    char* const plane = unit + sizeof words[pair];
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
