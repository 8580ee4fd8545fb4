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

float round_tokens(const TokenScheme& tokens, float* values, int64_t count) {
  if (tokens.columns == 0) return round_group(tokens.format, values, count);
  for (int64_t first = 0; first < count; first += tokens.columns) {
    const int64_t columns = std::min<int64_t>(tokens.columns, count - first);
    const float scale = round_group(tokens.format, values + first, columns);
    for (int64_t k = first; k < first + columns; ++k) values[k] *= scale;
  }
  return 1.0f;
}
