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

// The numbers of both pairs' first or second points.
template <GridCodes codes>
inline void read_numbers(const uint8_t* group, int point, uint16_t (&numbers)[2][kPanelColumns]) {
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
  uint16_t in_places[places];
  for (int i = 0; i < places; ++i) in_places[i] = static_cast<uint16_t>(lower[i] | upper[i] << 8);
  order_by_columns(in_places, numbers);
}

// Where a pair's signs are in its words, see pair_sign_bit(): shifted by 0, 9, 18 and 27.
constexpr uint32_t kSignShifts = 0x08040201, kSigns = 0x88888888;

// Writes the words of a pair, whose signs are a byte each where points have four coordinates.
template <GridCodes codes, class Lanes = Words>
inline void expand_words(const uint16_t* first, const uint16_t* second, const uint8_t* signs, char* words) {
  const uint32_t* const points = point_words<codes>();
  if constexpr (requires { Lanes::gathered(points, first); }) {
    for (int column = 0; column < kPanelColumns; column += kWidth) {
      Lanes word = Lanes::gathered(points, first + column);
      word = word.with(Lanes::gathered(points, second + column).template shifted<4>());
      if constexpr (codes.coordinates == 4) {
        word = word.with(Lanes::load_bytes(signs + column).times(Lanes::broadcast(kSignShifts)).masked(kSigns));
      }
      word.store(words + 4 * column);
    }
  } else {
    for (int column = 0; column < kPanelColumns; ++column) {
      uint32_t word = points[first[column]] | points[second[column]] << 4;
      if constexpr (codes.coordinates == 4) word |= signs[column] * kSignShifts & kSigns;
      std::memcpy(words + 4 * column, &word, sizeof word);
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
  uint16_t first[2][columns], second[2][columns];
  read_numbers<codes>(bytes, 0, first);
  read_numbers<codes>(bytes, 1, second);
  uint8_t signs[2][columns];
  if constexpr (codes.coordinates == 4) order_by_columns(bytes + Group::kSigns * columns / 8, signs);
  for (int pair = 0; pair < 2; ++pair) {
    char* const words = expanded + (codes.coordinates == 4 ? 4 : 6) * pair * columns;
    expand_words<codes>(first[pair], second[pair], signs[pair], words);
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
