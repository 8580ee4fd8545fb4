// Expanding units of grids to codes, point by point. See kernels.h here, and cpu/gemm/grid_units.h for where units are.

// Eight bits as eight bytes.
inline uint64_t spread_bits(uint8_t bits) {
  constexpr uint64_t each = 0x0101010101010101u;
  return ((bits * each & 0x8040201008040201u) + 0x7f7f7f7f7f7f7f7fu) >> 7 & each;
}

// From the order of place_in_group() to that of the columns of each pair.
template <class Value>
inline void order_by_columns(const Value* places, Value (&columns)[2][kPanelColumns]) {
  constexpr int half = kPanelColumns / 2;
  for (int column = 0; column < half; column += 4) {
    for (int i = 0; i < 4; ++i, places += 4) std::copy_n(places, 4, columns[i / 2] + i % 2 * half + column);
  }
}

// Numbers of a group's points, [pair][column], and its signs where points have four coordinates.
struct GroupNumbers {
  uint16_t first[2][kPanelColumns], second[2][kPanelColumns];
  uint8_t signs[2][kPanelColumns];
};

// The bits above the eighth of all numbers, a byte each: those of first points, then of second ones.
template <GridCodes codes>
inline void read_upper(const uint8_t* group, uint8_t (&upper)[4 * kPanelColumns]) {
  constexpr int bytes = kPanelColumns / 4, upper_bits = GridGroup<codes>::kUpperBits;
  const uint8_t* const bits = group + GridGroup<codes>::kUpper * kPanelColumns / 8;
  for (int point = 0; point < 2; ++point) {
    for (int i = 0; i < bytes; ++i) {
      uint64_t eight = 0;
      for (int bit = 0; bit < upper_bits; ++bit) eight |= spread_bits(bits[(2 * bit + point) * bytes + i]) << bit;
      std::memcpy(upper + (point * bytes + i) * 8, &eight, sizeof eight);
    }
  }
}

template <GridCodes codes>
inline void read_numbers(const uint8_t* group, const uint8_t* upper, GroupNumbers& numbers) {
  constexpr int places = 2 * kPanelColumns;
  uint16_t in_places[2 * places];
  for (int i = 0; i < 2 * places; ++i) in_places[i] = static_cast<uint16_t>(group[i] | upper[i] << 8);
  order_by_columns(in_places, numbers.first);
  order_by_columns(in_places + places, numbers.second);
  if constexpr (codes.coordinates == 4) {
    order_by_columns(group + GridGroup<codes>::kSigns * kPanelColumns / 8, numbers.signs);
  }
}

// Where a pair's signs are in its words, see pair_sign_bit(): shifted by 0, 9, 18 and 27.
constexpr uint32_t kSignShifts = 0x08040201, kSigns = 0x88888888;

// Writes the words of a pair.
template <GridCodes codes>
inline void expand_words(const GroupNumbers& numbers, int pair, char* words) {
  const uint32_t* const points = point_words<codes>();
  // In a loop of their own, as compilers turn it into vectors.
  uint32_t signs[kPanelColumns] = {};
  if constexpr (codes.coordinates == 4) {
    for (int column = 0; column < kPanelColumns; ++column) {
      signs[column] = numbers.signs[pair][column] * kSignShifts & kSigns;
    }
  }
  for (int column = 0; column < kPanelColumns; ++column) {
    uint32_t word = points[numbers.first[pair][column]] | points[numbers.second[pair][column]] << 4;
    if constexpr (codes.coordinates == 4) word |= signs[column];
    std::memcpy(words + 4 * column, &word, sizeof word);
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
inline void expand_group(const uint8_t* group, const GroupNumbers& numbers, char* expanded) {
  using Group = GridGroup<codes>;
  constexpr int columns = kPanelColumns;
  for (int pair = 0; pair < 2; ++pair) {
    char* const words = expanded + (codes.coordinates == 4 ? 4 : 6) * pair * columns;
    expand_words<codes>(numbers, pair, words);
    if constexpr (codes.coordinates == 4) continue;
    char* const plane = words + 4 * columns;
    if constexpr (Group::kOneSign) {
      expand_one_sign<codes>(group, pair, plane);
    } else {
      std::memcpy(plane, group + Group::kSigns * columns / 8 + 2 * pair * columns, 2 * columns);
    }
  }
}

// Several groups at once, so that no step waits for what the one before has just stored in smaller pieces.
template <GridCodes codes>
inline void expand_groups(const uint8_t* units, int64_t count, char* expanded) {
  using Group = GridGroup<codes>;
  constexpr int kAtOnce = 8;
  uint8_t upper[kAtOnce][4 * kPanelColumns];
  GroupNumbers numbers[kAtOnce];
  for (int64_t left = count; left > 0; left -= kAtOnce) {
    const int some = static_cast<int>(std::min<int64_t>(left, kAtOnce));
    const auto group = [&](int i) { return units + i * Group::bytes(kPanelColumns); };
    for (int i = 0; i < some; ++i) read_upper<codes>(group(i), upper[i]);
    for (int i = 0; i < some; ++i) read_numbers<codes>(group(i), upper[i], numbers[i]);
    for (int i = 0; i < some; ++i, expanded += Group::kExpandedBits * kPanelColumns / 8) {
      expand_group<codes>(group(i), numbers[i], expanded);
    }
    units = group(some);
  }
}

// See Kernels::expand_grids.
void expand_grids(Grid grid, const char* units, int64_t steps, char* codes) {
  with_grid(grid, [&]<GridCodes own> {
    expand_groups<own>(reinterpret_cast<const uint8_t*>(units), steps * (kGridStep / GridGroup<own>::kK), codes);
  });
}
