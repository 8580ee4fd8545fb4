// The tile instructions of AMX in plain C++, bit for bit but for the payloads of NaN: what they mean, and a way to test
// kernels on CPUs without them. Included after <bit>, <cmath>, <cstdint>, <cstring> and model_registers.h,
// inside a target region or outside of any. Needs -ffp-contract=off and the default rounding.

struct ModelTiles {
  static void configure(const TileConfiguration& shapes) { ModelRegisters::own().configure(shapes); }
  static void release() { ModelRegisters::own().release(); }
  template <int tile>
  static void zero() {
    static_assert(tile >= 0 && tile < kTileRegisters);
    std::memset(ModelRegisters::own().configured(tile).bytes, 0, sizeof(ModelRegister::bytes));
  }
  template <int tile>
  static void load(const void* source, int64_t stride) {
    static_assert(tile >= 0 && tile < kTileRegisters);
    ModelRegister& target = ModelRegisters::own().accessible(tile);
    const char* row = static_cast<const char*>(source);
    for (int r = 0; r < target.rows; ++r) std::memcpy(target.bytes[r], row + r * stride, target.column_bytes);
  }
  template <int tile>
  static void stream(const void* source, int64_t stride) {
    load<tile>(source, stride);
  }
  template <int tile>
  static void store(void* target, int64_t stride) {
    static_assert(tile >= 0 && tile < kTileRegisters);
    const ModelRegister& source = ModelRegisters::own().accessible(tile);
    char* row = static_cast<char*>(target);
    for (int r = 0; r < source.rows; ++r) std::memcpy(row + r * stride, source.bytes[r], source.column_bytes);
  }

  // c += a * b, of pairs of bfloat16: for every sum, the products of the first of each pair are summed in order of k by
  // fused multiply-adds, and so are those of the second; the two sums are added, and their sum to c. Subnormal operands
  // and results of each of these steps count as zeros of their sign.
  template <int c, int a, int b>
  static void multiply_bf16() {
    add_bf16_products(product<c, a, b>());
  }

  // c += a * b, of groups of four signed bytes, in integers of 32 bits that wrap around.
  template <int c, int a, int b>
  static void multiply_i8() {
    add_i8_products(product<c, a, b>());
  }

 private:
  static constexpr int kColumns = kTileRegisterBytes / 4;
  using Columns = float[kColumns];

  struct Operands {
    ModelRegister& c;
    const ModelRegister& a;
    const ModelRegister& b;
    int depth;  // k
  };

  // Kernels call these often: copies in each of them would be megabytes.
  [[gnu::noinline]] static void add_bf16_products(const Operands& operands) {
    Columns right[2][kTileRegisterRows];  // of the first and second of each pair
    uint32_t unsafe = 0;
    for (int k = 0; k < operands.depth; ++k) {
      uint32_t pairs[kColumns];
      std::memcpy(pairs, operands.b.bytes[k], sizeof pairs);
      for (int n = 0; n < kColumns; ++n) {
        right[0][k][n] = normal(std::bit_cast<float>(pairs[n] << 16));
        right[1][k][n] = normal(std::bit_cast<float>(pairs[n] & 0xffff0000u));
        unsafe |= may_leave_range(right[0][k][n]) | may_leave_range(right[1][k][n]);
      }
    }
    for (int m = 0; m < operands.c.rows; ++m) {
      uint32_t pairs[kColumns];
      Columns left[2], sums[2] = {}, added;
      std::memcpy(pairs, operands.a.bytes[m], sizeof pairs);
      std::memcpy(added, operands.c.bytes[m], sizeof added);
      uint32_t unsafe_row = unsafe;
      for (int k = 0; k < kColumns; ++k) {
        left[0][k] = normal(std::bit_cast<float>(pairs[k] << 16));
        left[1][k] = normal(std::bit_cast<float>(pairs[k] & 0xffff0000u));
        unsafe_row |= may_leave_range(left[0][k]) | may_leave_range(left[1][k]);
      }
      for (int half = 0; half < 2; ++half) {
        for (int k = 0; k < operands.depth; ++k) {
          const float factor = left[half][k];
          unsafe_row == 0 ? add_exact_products(factor, right[half][k], sums[half])
                          : add_products(factor, right[half][k], sums[half]);
        }
      }
      for (int n = 0; n < kColumns; ++n) added[n] = normal(normal(added[n]) + normal(sums[0][n] + sums[1][n]));
      std::memcpy(operands.c.bytes[m], added, static_cast<size_t>(operands.c.column_bytes));
    }
  }

  [[gnu::noinline]] static void add_i8_products(const Operands& operands) {
    int32_t right[kTileRegisterRows][4][kColumns];
    for (int k = 0; k < operands.depth; ++k) {
      for (int i = 0; i < 4; ++i) {
        for (int n = 0; n < kColumns; ++n) right[k][i][n] = static_cast<int8_t>(operands.b.bytes[k][4 * n + i]);
      }
    }
    for (int m = 0; m < operands.c.rows; ++m) {
      uint32_t sums[kColumns];
      std::memcpy(sums, operands.c.bytes[m], sizeof sums);
      for (int k = 0; k < operands.depth; ++k) {
        for (int i = 0; i < 4; ++i) {
          const int32_t factor = static_cast<int8_t>(operands.a.bytes[m][4 * k + i]);
#pragma GCC unroll 1
          for (int n = 0; n < kColumns; ++n) sums[n] += static_cast<uint32_t>(factor * right[k][i][n]);
        }
      }
      std::memcpy(operands.c.bytes[m], sums, static_cast<size_t>(operands.c.column_bytes));
    }
  }

  template <int c, int a, int b>
  static Operands product() {
    static_assert(c != a && c != b && a != b, "the CPU refuses the same register twice");
    ModelRegisters& registers = ModelRegisters::own();
    registers.check_product(c, a, b);
    return {registers.accessible(c), registers.accessible(a), registers.accessible(b), registers.accessible(b).rows};
  }

  // Subnormal values become zeros of their sign.
  static float normal(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t kept = (bits & 0x7f800000u) == 0 ? 0x80000000u : 0xffffffffu;
    return std::bit_cast<float>(bits & kept);
  }

  // 0 if this is a zero or in 2^-55 .. 2^61. Products of such values are float32 without rounding, and 16 of them add
  // up to values that are neither subnormal nor too large.
  static uint32_t may_leave_range(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
    return bits != 0 && bits - (72u << 23) >= (116u << 23);
  }

  // Fused multiply-adds, as products are exact.
  static void add_exact_products(float factor, const Columns& values, Columns& sums) {
#pragma GCC unroll 1
    for (int n = 0; n < kColumns; ++n) sums[n] += factor * values[n];
  }

  // Fused multiply-adds of any values. Float64 holds the product, and rounding its sum twice gives the float32 that
  // rounding once does, as it has more than twice the digits. A sum is subnormal if it is so after rounding it to 24
  // digits: if it is below 2^-126 - 2^-151, halfway to the next smaller.
  static void add_products(float factor, const Columns& values, Columns& sums) {
#pragma GCC unroll 1
    for (int n = 0; n < kColumns; ++n) {
      const double sum = static_cast<double>(factor) * values[n] + sums[n];
      const double kept = std::abs(sum) < 0x1p-126 - 0x1p-151 ? std::copysign(0.0, sum) : sum;
      sums[n] = static_cast<float>(kept);
    }
  }
};
