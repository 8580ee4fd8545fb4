// Expanding units of grids to codes, point by point. See kernels.h here, and cpu/gemm/grid_units.h for where units are.

// The words of pair `pair` of a group.
template <GridCodes codes>
inline void expand_pair(const uint32_t* points, const uint8_t* group, int pair, char* words) {
  using Group = GridGroup<codes>;
  constexpr int columns = kPanelColumns;
  const auto number_of = [&](int point, int place) {
    uint32_t number = group[2 * point * columns + place];
    for (int bit = 0; bit < Group::kUpperBits; ++bit) {
      const uint8_t* upper = group + (Group::kUpper + (2 * bit + point) * 2) * columns / 8;
      number |= (upper[place / 8] >> place % 8 & 1u) << (8 + bit);
    }
    return number;
  };
  for (int column = 0; column < columns; ++column) {
    const int place = place_in_group(columns, pair, column);
    uint32_t word = points[number_of(0, place)] | points[number_of(1, place)] << 4;
    if constexpr (codes.coordinates == 4) {
      const uint32_t signs = group[Group::kSigns * columns / 8 + place];
      word |= (signs | signs << 9 | signs << 18 | signs << 27) & 0x88888888u;  // see pair_sign_bit()
    }
    std::memcpy(words + 4 * column, &word, sizeof word);
  }
}

// The upper planes of both units, of points whose columns share a sign.
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
  const uint32_t* points = point_words<codes>();
  for (int pair = 0; pair < 2; ++pair) {
    if constexpr (codes.coordinates == 4) {
      expand_pair<codes>(points, bytes, pair, expanded + 4 * pair * columns);
    } else {
      char* const unit = expanded + 6 * pair * columns;
      expand_pair<codes>(points, bytes, pair, unit);
      if constexpr (Group::kOneSign) {
        expand_one_sign<codes>(bytes, pair, unit + 4 * columns);
      } else {
        std::memcpy(unit + 4 * columns, group + Group::kSigns * columns / 8 + 2 * pair * columns, 2 * columns);
      }
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
