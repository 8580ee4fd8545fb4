// Products of bytes by NEON's dot products. Included after template/products.h.

// See integer_tiles.h.
struct ByteProducts {
  static constexpr bool signed_bytes = true, multiplies_pairs = false, multiplies_by_lanes = true;
  template <int largest>
  static constexpr int at_once = 1;

  template <int largest>
  static Words add(Words sum, const Words (&w)[1], const Words (&x)[1]) {
    return Words::of_integers(vdotq_s32(sum.integers(), w[0].signed_bytes(), x[0].signed_bytes()));
  }
  // Adds the products of w with the words x[i] to sums[i], for rows from `row` on.
  template <int row, int rows, class Weights, class Sums>
  [[gnu::always_inline]] static void multiply_by_lanes(const char* x, const Weights& w, Sums& sums) {
    if constexpr (row < rows) {
      constexpr int count = lanes_for(rows - row);
      multiply_lanes(load_lanes<count>(x + 4 * row), w, sums + row, std::make_integer_sequence<int, count>());
      multiply_by_lanes<row + count, rows>(x, w, sums);
    } else if constexpr (rows > 6) {
      // Or compilers load what later products need so early that too few registers are left.
      asm volatile("" : : : "memory");
    }
  }

 private:
  template <class Lanes, class Weights, class Row, int... lane>
  [[gnu::always_inline]] static void multiply_lanes(Lanes x, const Weights& w, Row* sums,
                                                    std::integer_sequence<int, lane...>) {
    ((sums[lane][0] = add_lane<lane>(sums[lane][0], w[0], x), sums[lane][1] = add_lane<lane>(sums[lane][1], w[1], x)),
     ...);
  }
  template <int lane>
  [[gnu::always_inline]] static Words add_lane(Words sum, Words w, uint8x16_t x) {
    return Words::of_integers(vdotq_laneq_s32(sum.integers(), w.signed_bytes(), vreinterpretq_s8_u8(x), lane));
  }
  template <int lane>
  [[gnu::always_inline]] static Words add_lane(Words sum, Words w, uint8x8_t x) {
    return Words::of_integers(vdotq_lane_s32(sum.integers(), w.signed_bytes(), vreinterpret_s8_u8(x), lane));
  }
};
