// 4 float32 lanes in plain C++, which compilers turn into whatever vectors the target has. Included inside the portable
// namespace. The place to start a NEON or SVE version from.

struct Vector {
  static constexpr int width = 4;
  float v[4];

  template <class Function>
  static Vector map(Function function) {
    return {{function(0), function(1), function(2), function(3)}};
  }

  static Vector zero() { return {{0, 0, 0, 0}}; }
  static Vector broadcast(float x) { return {{x, x, x, x}}; }
  static Vector load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static Vector load(const f16* p) {
    return map([p](int i) { return static_cast<float>(p[i]); });
  }
  static Vector load(const bf16* p) {
    return map([p](int i) { return static_cast<float>(p[i]); });
  }
  // The elements of even and odd k of 4 columns stored as pairs.
  static void load_pairs(const bf16* p, Vector& even, Vector& odd) {
    even = map([p](int i) { return static_cast<float>(p[2 * i]); });
    odd = map([p](int i) { return static_cast<float>(p[2 * i + 1]); });
  }
  void store(float* p) const {
    for (int i = 0; i < 4; ++i) p[i] = v[i];
  }
  template <class Half>
  void store(Half* p) const {
    for (int i = 0; i < 4; ++i) p[i] = Half(v[i]);
  }

  // a * b + c
  static Vector fma(Vector a, Vector b, Vector c) {
    return Vector::map([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  // NaN in b stays NaN.
  static Vector max(Vector a, Vector b) {
    return Vector::map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Vector min(Vector a, Vector b) {
    return Vector::map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  Vector abs() const {
    return map([&](int i) { return std::fabs(v[i]); });
  }
  Vector sqrt() const {
    return map([&](int i) { return std::sqrt(v[i]); });
  }
  Vector round() const {
    return map([&](int i) { return std::nearbyint(v[i]); });
  }
  // 2^x of integral x in -126 .. 127; undefined conversions of NaN are avoided.
  Vector exp2_integral() const {
    return map([&](int i) {
      const float x = v[i] >= -126.0f ? v[i] : -126.0f;
      return float_from_bits(static_cast<uint32_t>(static_cast<int32_t>(x) + 127) << 23);
    });
  }
  // Where x < 0: a, else b.
  static Vector select_negative(Vector x, Vector a, Vector b) {
    return map([&](int i) { return x.v[i] < 0 ? a.v[i] : b.v[i]; });
  }
};

inline Vector operator+(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vector operator-(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vector operator*(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vector operator/(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] / b.v[i]; });
}

// 16 ranks, see rank_of().
struct RankBlock {
  int32_t v[kRankBlock];

  static RankBlock load(const int32_t* p) {
    RankBlock block;
    std::copy(p, p + kRankBlock, block.v);
    return block;
  }
  static RankBlock broadcast(int32_t rank) {
    RankBlock block;
    std::fill(block.v, block.v + kRankBlock, rank);
    return block;
  }
  void store(int32_t* p) const { std::copy(v, v + kRankBlock, p); }
  static RankBlock max(RankBlock a, RankBlock b) {
    for (int i = 0; i < kRankBlock; ++i) a.v[i] = std::max(a.v[i], b.v[i]);
    return a;
  }
  RankBlock plus(RankBlock other) const {
    for (int i = 0; i < kRankBlock; ++i) other.v[i] += v[i];
    return other;
  }
  // One more in every lane where a < b.
  RankBlock count_less(const RankBlock& a, const RankBlock& b) const {
    RankBlock sum = *this;
    for (int i = 0; i < kRankBlock; ++i) sum.v[i] += a.v[i] < b.v[i] ? 1 : 0;
    return sum;
  }
  int32_t largest() const { return *std::max_element(v, v + kRankBlock); }
  bool contains(int32_t rank) const { return std::find(v, v + kRankBlock, rank) != v + kRankBlock; }
  // The first lane that holds `rank`, which one must.
  int first(int32_t rank) const { return static_cast<int>(std::find(v, v + kRankBlock, rank) - v); }
  void replace(int lane, int32_t rank) { v[lane] = rank; }
  // Writes the lanes of at least `rank`, and their numbers counted from `base`; returns how many.
  int append(int32_t rank, int32_t, int32_t base, int32_t* ranks, int32_t* numbers) const {
    int count = 0;
    for (int i = 0; i < kRankBlock; ++i) {
      if (v[i] < rank) continue;
      ranks[count] = v[i];
      numbers[count++] = base + i;
    }
    return count;
  }
};
