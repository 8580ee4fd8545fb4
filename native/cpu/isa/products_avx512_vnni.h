// Products of bytes by AVX-512 VNNI. Included after template/products.h.

inline VectorBits add_byte_products(VectorBits sum, VectorBits w, VectorBits x) {
  return _mm512_dpbusd_epi32(sum, w, x);
}
#include "cpu/isa/products_vnni.h"
