// Products of bytes widened to 16 bits, for NEON. Included after template/kernels.h.

// See integer_tiles.h. A column's four products become two half words, which are added to its word at once.
struct ByteProducts {
  static constexpr bool signed_bytes = true, multiplies_pairs = false;
  // As many quads as stay within 16 bits; more would take more registers than there are.
  template <int largest>
  static constexpr int at_once = largest < 64 ? 2 : 1;

  template <int largest, size_t n>
  static Words add(Words sum, const Words (&w)[n], const Words (&x)[n]) {
    static_assert(n == 1 || 2 * n * largest * 128 <= INT16_MAX);
    int16x8_t low = vmull_s8(vget_low_s8(w[0].signed_bytes()), vget_low_s8(x[0].signed_bytes()));
    int16x8_t high = vmull_high_s8(w[0].signed_bytes(), x[0].signed_bytes());
#pragma GCC unroll 2
    for (size_t i = 1; i < n; ++i) {
      low = vmlal_s8(low, vget_low_s8(w[i].signed_bytes()), vget_low_s8(x[i].signed_bytes()));
      high = vmlal_high_s8(high, w[i].signed_bytes(), x[i].signed_bytes());
    }
    return Words::of_integers(vpadalq_s16(sum.integers(), vpaddq_s16(low, high)));
  }
};
