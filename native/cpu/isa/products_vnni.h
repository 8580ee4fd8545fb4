// Products of bytes by AVX-512 VNNI. Included after template/products.h.

struct ByteProducts {
  static constexpr bool signed_bytes = false, multiplies_pairs = false;
  template <int largest>
  static constexpr int at_once = 1;
  template <int largest>
  static Words add(Words sum, const Words (&w)[1], const Words (&x)[1]) {
    return {_mm512_dpbusd_epi32(sum.v, w[0].v, x[0].v)};
  }
};
