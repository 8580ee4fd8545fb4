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
