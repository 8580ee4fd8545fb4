// Products of bytes by multiply-adds in 16 bits, for AVX2 and AVX-512. Included after template/kernels.h.

// See integer_tiles.h. Two products of magnitudes up to 128 and 127 fit into 16 bits, and more pairs of small w.
struct ByteProducts {
  static constexpr bool signed_bytes = true, multiplies_pairs = true;
  template <int largest>
  static constexpr int at_once = largest < 64 ? 32767 / (2 * 128 * largest) : 1;

  template <int largest>
  static Words pairs(Words w, Words x) {
    if constexpr (largest < 64) return w.pair_products(x);
    return w.byte_magnitudes().pair_products(x.bytes_with_signs_of(w));
  }
  template <int largest, size_t n>
  static Words all_pairs(const Words (&w)[n], const Words (&x)[n]) {
    Words all = pairs<largest>(w[0], x[0]);
#pragma GCC unroll 4
    for (size_t i = 1; i < n; ++i) all = all.plus_halves(pairs<largest>(w[i], x[i]));
    return all;
  }
  template <int largest, size_t n>
  static Words add(Words sum, const Words (&w)[n], const Words (&x)[n]) {
    return sum.plus(all_pairs<largest>(w, x).halves_added());
  }
  // The same times factors, which both halves of a word hold: see factor_tiles.h.
  template <int largest, size_t n>
  static Words add(Words sum, const Words (&w)[n], const Words (&x)[n], Words factors) {
    return sum.plus(all_pairs<largest>(w, x).halves_multiplied(factors));
  }
};
