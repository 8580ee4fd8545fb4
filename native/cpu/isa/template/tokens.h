// Tokens rounded to 8 bits, as core/formats/token_format.h defines it. See kernels.h here.

inline Vector clamped(Vector values, float most) {
  return Vector::max(Vector::min(values, Vector::broadcast(most)), Vector::broadcast(-most));
}

inline Vector to_integers(Vector values) {
  const Vector shift = Vector::broadcast(0x1.8p23f);
  return (values + shift) - shift;
}

inline Vector rounded_to_e4m3(Vector values) {
  const Vector within = clamped(values, 448.0f);
  const Words bits = Words::of(within);
  const Words odd = bits.shifted<-20>().masked(1);
  const Vector normal = bits.plus(Words::broadcast(0x7ffff)).plus(odd).masked(0xfff00000u).number();
  const Vector shift = Vector::broadcast(0x1.8p14f);
  const Vector subnormal = (within + shift) - shift;
  return Vector::select_negative(within.abs() - Vector::broadcast(0x1p-6f), subnormal, normal);
}

// Stores the values of the codes of values that share a scale, and returns the scale.
template <TokenFormat format>
inline float round_group(const float* values, int64_t count, float* codes) {
  // The sum of zeros is NaN if a value is not finite.
  Vector largest = Vector::zero(), zeros = Vector::zero();
  for_each_vector(values, count, 0.0f, [&](Vector value, int64_t, int64_t) {
    largest = Vector::max(value.abs(), largest);
    zeros = Vector::fma(value, Vector::zero(), zeros);
  });
  const float scale = token_scale(format, magnitude_bits(largest.largest() + zeros.sum()));
  if (!(scale > 0.0f)) {
    std::fill_n(codes, count, 0.0f);
    return scale;
  }
  const Vector divisor = Vector::broadcast(scale);
  for_each_vector(values, count, 0.0f, [&](Vector value, int64_t first, int64_t lanes) {
    const Vector scaled = value / divisor;
    const Vector code = format == TokenFormat::int8 ? to_integers(clamped(scaled, 127.0f)) : rounded_to_e4m3(scaled);
    code.store_first(codes + first, lanes);
  });
  return scale;
}
inline float round_group(TokenFormat format, const float* values, int64_t count, float* codes) {
  switch (format) {
    case TokenFormat::int8: return round_group<TokenFormat::int8>(values, count, codes);
    case TokenFormat::fp8: return round_group<TokenFormat::fp8>(values, count, codes);
    default: return round_group<TokenFormat::fp8_ue8m0>(values, count, codes);
  }
}

void round_tokens(const TokenScheme& tokens, const float* values, int64_t count, float* codes, float* scales) {
  const int64_t width = tokens.columns == 0 ? count : tokens.columns;
  for (int64_t i = 0; i < tokens.scales_of(count); ++i) {
    const int64_t first = i * width;
    scales[i] = round_group(tokens.format, values + first, std::min(width, count - first), codes + first);
  }
}

void scale_rows(const float* scales, int rows, float* c) {
  for (int r = 0; r < rows; ++r, c += kPanelColumns) {
    const Vector scale = Vector::broadcast(scales[r]);
    for (int j = 0; j < kPanelColumns; j += kWidth) (Vector::load(c + j) * scale).store(c + j);
  }
}
