// Products of bytes by AVX-512 VNNI. Included after template/products.h.

struct ByteProducts {
  static constexpr bool signed_bytes = false;
  template <bool>
  static Words add(Words sum, Words w, Words x) {
    return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)};
  }
};
