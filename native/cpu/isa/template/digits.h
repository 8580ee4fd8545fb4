// Rows of x as digits, see Arithmetic::i8_digits, for products of integers in place of products of float32. See
// kernels.h here.
//
// Element k of a row is unit * (high + middle / 2^8 + low / 2^16), to within 1.2e-7 of the row's largest magnitude.
// Digits are integers of a byte. The unit is a power of two, so numbers of few bits are exact, and scaling rounds
// nothing.

// What makes the bytes of a number in units of 2^-16 its digits plus 128.
constexpr int32_t kDigitBias = 0x808080;

// The least power of two, of those that are normal numbers, in which a number of this magnitude is below 127.49, so
// that no digit exceeds 127.
inline float digit_unit(uint32_t largest) {
  const uint32_t exponent = float_bits(float_from_bits(largest) * (128.0f / 127.49f)) >> 23;
  return float_from_bits((exponent <= 7 ? 1u : exponent - 6) << 23);
}

// The digits of a row whose largest magnitude_bits() is `largest`, chunk by chunk.
class RowDigits {
 public:
  // A row with one infinity is that infinity, beside which all numbers vanish; several might cancel, so they are NaN.
  RowDigits(uint32_t largest, uint32_t infinities)
      : finite_(largest < 0x7f800000u),
        unit_(finite_                                     ? digit_unit(largest)
              : largest == 0x7f800000u && infinities == 1 ? INFINITY
                                                          : NAN) {}

  float unit() const { return unit_; }
  // Of at most kChunk numbers, the highest digit first.
  void cut(const float* values, int64_t count, Quad (&quads)[kDigits][kChunk / 4]) const {
    alignas(64) int32_t words[kChunk];
    finite_ ? cut_numbers(values, count, words) : cut_infinities(values, count, words);
    alignas(64) int8_t bytes[kChunk];
    for (int digit = 0; digit < kDigits; ++digit) {
      const int shift = 8 * (kDigits - 1 - digit);
      for (int64_t i = 0; i < count; ++i) bytes[i] = static_cast<int8_t>((words[i] >> shift) ^ 0x80);
      order_quads(bytes, count, quads[digit]);
    }
  }

 private:
  // In two steps, as the quotient of both may be no number.
  void cut_numbers(const float* values, int64_t count, int32_t* words) const {
    const Vector units = Vector::broadcast(1.0f / unit_), lowest = Vector::broadcast(0x1p16f);
    for (int64_t i = 0; i < count; i += kWidth) {
      Words::integers(Vector::load(values + i) * units * lowest)
          .plus(Words::broadcast(kDigitBias))
          .store(reinterpret_cast<char*>(words + i));
    }
  }
  static void cut_infinities(const float* values, int64_t count, int32_t* words) {
    for (int64_t i = 0; i < count; ++i) {
      const bool infinite = magnitude_bits(values[i]) == 0x7f800000u;
      words[i] = kDigitBias + (infinite ? (values[i] < 0 ? -0x10000 : 0x10000) : 0);
    }
  }

  bool finite_;
  float unit_;
};

void pack_digit_row(DType dtype, const void* source, int64_t k, int64_t padded_k, void* tile, int row, int rows) {
  alignas(64) float values[kChunk];
  const auto for_chunks = [&](auto&& use) {
    for (int64_t begin = 0; begin < padded_k; begin += kChunk) {
      const int64_t length = std::min(kChunk, padded_k - begin);
      load_chunk(dtype, source, k, begin, length, values);
      use(begin, length);
    }
  };
  uint32_t largest = 0;
  uint32_t infinities = 0;
  for_chunks([&](int64_t, int64_t length) {
    uint32_t of_chunk = 0;
    for (int64_t i = 0; i < length; ++i) {
      const uint32_t bits = magnitude_bits(values[i]);
      of_chunk = std::max(of_chunk, bits);
      infinities += bits == 0x7f800000u ? 1 : 0;
    }
    largest = std::max(largest, of_chunk);
  });
  const RowDigits digits(largest, infinities);
  for_chunks([&](int64_t begin, int64_t length) {
    alignas(64) Quad quads[kDigits][kChunk / 4];
    digits.cut(values, length, quads);
    Quad* target = static_cast<Quad*>(tile) + (begin / 4 * rows + row) * kDigits;
    for (int64_t i = 0; i < length / 4; ++i, target += rows * kDigits) {
      for (int digit = 0; digit < kDigits; ++digit) target[digit] = quads[digit][i];
    }
  });
  const int64_t tile_bytes = padded_k * rows * element_bytes(Arithmetic::i8_digits);
  reinterpret_cast<float*>(static_cast<char*>(tile) + tile_bytes)[row] = digits.unit();
}
