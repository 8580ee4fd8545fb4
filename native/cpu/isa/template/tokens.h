// Tokens rounded to 8 bits. See kernels.h here.

// Makes values that share a scale the values of their codes, and returns the scale.
template <TokenFormat format>
inline float round_group(float* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t k = 0; k < count; ++k) largest = std::max(largest, magnitude_bits(values[k]));
  const float scale = token_scale(format, largest);
  for (int64_t k = 0; k < count; ++k) values[k] = token_code(format, values[k], scale);
  return scale;
}
inline float round_group(TokenFormat format, float* values, int64_t count) {
  return format == TokenFormat::int8 ? round_group<TokenFormat::int8>(values, count)
                                     : round_group<TokenFormat::fp8>(values, count);
}

void round_tokens(const TokenScheme& tokens, float* values, int64_t count, float* scales) {
  const int64_t width = tokens.columns == 0 ? count : tokens.columns;
  for (int64_t i = 0; i < tokens.scales_of(count); ++i) {
    scales[i] = round_group(tokens.format, values + i * width, std::min(width, count - i * width));
  }
}
