// Expanding units of grids to codes. See kernels.h here, and cpu/gemm/grid_units.h for where units are.

using Halves = HalvesOf<kPanelColumns>;

// The field with the upper bits of point `point`, its lowest one as bit `to`.
template <GridCodes codes, int point, int to>
[[gnu::always_inline]] inline Halves upper_of(const char* step) {
  using Step = GridStep<codes>;
  constexpr int field = point / Step::kFieldPoints, shift = point % Step::kFieldPoints * Step::kUpperBits;
  const char* place = step + (Step::kUpper + field * Step::kFieldBytes) * kPanelColumns;
  const Halves upper = Step::kFieldBytes == 1 ? Halves::load_bytes(place) : Halves::load(place);
  return upper.template shifted<to - shift>();
}

// Point `point` of all columns.
template <GridCodes codes, int point>
[[gnu::always_inline]] inline Halves point_of(const uint16_t* points, const char* step) {
  constexpr int upper_bits = codes.number_bits - 8;
  Halves numbers = Halves::load_bytes(step + point * kPanelColumns);
  if constexpr (upper_bits > 0) {
    numbers = numbers.with(upper_of<codes, point, 8>(step).masked(((1 << upper_bits) - 1) << 8));
  }
  return numbers.template found_in<codes.number_bits>(points);
}

// The sign of all columns of point `point`, as all bits.
template <GridCodes codes, int point>
[[gnu::always_inline]] inline Halves sign_of(const char* step) {
  return upper_of<codes, point, 15 - (codes.number_bits - 8)>(step).sign();
}

// Two points become a word of codes for each column.
template <GridCodes codes, int pair>
[[gnu::always_inline]] inline void expand_pair(const uint16_t* points, const char* step, char* expanded) {
  using Step = GridStep<codes>;
  constexpr bool narrow = codes.coordinates == 8;
  // A unit of panel_codes.h.
  constexpr int unit = narrow ? pair : pair / 2;
  char* const to = expanded + unit * (narrow ? 6 : 8) * kPanelColumns;
  const char* const signs_of_unit = step + (Step::kSigns + 2 * unit) * kPanelColumns;
  const Halves first = point_of<codes, 2 * pair>(points, step), second = point_of<codes, 2 * pair + 1>(points, step);
  Halves low = first.masked(0x0f0f).with(second.masked(0x0f0f).template shifted<4>());
  Halves high = first.template shifted<-4>().masked(0x0f0f).with(second.masked(0xf0f0));
  if constexpr (narrow) {
    Halves::store_words(low, high, to);
    char* const plane = to + 4 * kPanelColumns;
    if constexpr (codes.sign_bits == 8) {
      Halves::load(signs_of_unit).store(plane);
    } else {
      // Of the quads of either point; see plane_bit().
      const Halves of_first = sign_of<codes, 2 * pair>(step).masked(0x3333);
      of_first.with(sign_of<codes, 2 * pair + 1>(step).masked(0xcccc)).store(plane);
    }
  } else {
    constexpr int word = pair % 2;
    const Halves signs = Halves::load(signs_of_unit);
    low = low.with(signs.template shifted<2 * word>().masked(0x8888));
    high = high.with(signs.template shifted<2 * word + 1>().masked(0x8888));
    Halves::store_words(low, high, to + 4 * word * kPanelColumns);
  }
}

template <GridCodes codes>
inline void expand_steps(const char* units, int64_t steps, char* expanded) {
  constexpr int kPairs = GridStep<codes>::kPoints / 2;
  constexpr int64_t kExpandedBytes = kGridStep / 8 * (codes.coordinates == 8 ? 3 : 4) * kPanelColumns;
  const uint16_t* points = arranged_points<codes>();
  for (; steps > 0; --steps, units += GridStep<codes>::kBytes * kPanelColumns, expanded += kExpandedBytes) {
    [&]<int... pair>(std::integer_sequence<int, pair...>) { (expand_pair<codes, pair>(points, units, expanded), ...); }
    (std::make_integer_sequence<int, kPairs>());
  }
}

// See Kernels::expand_grids.
void expand_grids(Grid grid, const char* units, int64_t steps, char* codes) {
  with_grid(grid, [&]<GridCodes own> { expand_steps<own>(units, steps, codes); });
}
