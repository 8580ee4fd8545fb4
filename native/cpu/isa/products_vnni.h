// Products of bytes by VNNI. Included after template/products.h and add_byte_products(sum, unsigned bytes, signed
// bytes).

struct ByteProducts {
  static constexpr bool signed_bytes = false, multiplies_pairs = false;
  template <int largest>
  static constexpr int at_once = 1;
  template <int largest>
  static Words add(Words sum, const Words (&w)[1], const Words (&x)[1]) {
    return {add_byte_products(sum.v, w[0].v, x[0].v)};
  }
};
