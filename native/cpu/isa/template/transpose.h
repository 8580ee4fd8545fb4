// Exchanging rows and columns. See kernels.h here.

// Lane j of vector i becomes lane i of vector j. Each round exchanges halves between vectors.
template <int kRound = 1>
[[gnu::always_inline]] inline void transpose(Vector* v) {
  if constexpr (kRound < kWidth) {
    Vector dealt[kWidth];
    for (int i = 0; i < kWidth / 2; ++i) Vector::zip(v[i], v[i + kWidth / 2], dealt[2 * i], dealt[2 * i + 1]);
    transpose<2 * kRound>(dealt);
    std::copy(dealt, dealt + kWidth, v);
  }
}

// See Kernels::transpose_words.
void transpose_words(const void* words, int64_t stride, int64_t rows, int64_t columns, void* target) {
  const auto* from = static_cast<const float*>(words);
  auto* to = static_cast<float*>(target);
  for (int64_t column = 0; column < columns; column += kWidth) {
    for (int64_t row = 0; row < rows; row += kWidth) {
      Vector block[kWidth];
      for (int i = 0; i < kWidth; ++i) block[i] = Vector::load(from + (row + i) * stride + column);
      transpose(block);
      for (int i = 0; i < kWidth; ++i) block[i].store(to + (column + i) * rows + row);
    }
  }
}
