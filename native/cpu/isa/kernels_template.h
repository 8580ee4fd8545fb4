// The kernels of one instruction set, in terms of its Vector. Included once per instruction set, inside its namespace
// and target region, after a Vector header; so there is no include guard, and nothing here may be reached from
// elsewhere.

constexpr int kWidth = Vector::width;
constexpr int kPanelVectors = 2;
constexpr int kPanelColumns = kPanelVectors * kWidth;

// ---- Tiles of matrix products ----

template <int rows>
using Sums = Vector[rows][kPanelVectors];

template <int rows>
inline void multiply_add(const float* x, const Vector (&w)[kPanelVectors], Sums<rows>& sums) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Vector value = Vector::broadcast(x[r]);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j] = Vector::fma(value, w[j], sums[r][j]);
  }
}

// How one k group of a weight dtype is multiplied: `Value` of x, `Weight` as stored, `group` consecutive k.
template <class Stored>
struct PlainWeight {
  using Weight = Stored;
  using Value = float;
  static constexpr int group = 1;

  template <int rows>
  static void step(const Value* x, const Weight* weight, Sums<rows>& sums) {
    const Vector w[kPanelVectors] = {Vector::load(weight), Vector::load(weight + kWidth)};
    multiply_add<rows>(x, w, sums);
  }
};

struct PairedWeight {
  using Weight = bf16;
  using Value = float;
  static constexpr int group = 2;

  template <int rows>
  static void step(const Value* x, const Weight* weight, Sums<rows>& sums) {
    Vector even[kPanelVectors], odd[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) Vector::load_pairs(weight + 2 * j * kWidth, even[j], odd[j]);
    multiply_add<rows>(x, even, sums);
    multiply_add<rows>(x + rows, odd, sums);
  }
};

template <class Step, int rows>
void tile(int64_t k, const void* x, const void* w, float* c, bool accumulate, const char* prefetch,
          int64_t prefetch_lines) {
  // Groups between two rounds of prefetches.
  constexpr int kUnroll = 4;
  const auto* value = static_cast<const typename Step::Value*>(x);
  const auto* weight = static_cast<const typename Step::Weight*>(w);
  Sums<rows> sums;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      sums[r][j] = accumulate ? Vector::load(c + r * kPanelColumns + j * kWidth) : Vector::zero();
    }
  }
  const int64_t groups = k / Step::group;
  const int64_t rounds = groups / kUnroll;
  const int64_t lines_per_round = rounds > 0 ? (prefetch_lines + rounds - 1) / rounds : 0;
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t line = 0; line < lines_per_round; ++line, prefetch += 64) __builtin_prefetch(prefetch, 0, 2);
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      Step::template step<rows>(value, weight, sums);
      value += Step::group * rows;
      weight += Step::group * kPanelColumns;
    }
  }
  for (int64_t group = rounds * kUnroll; group < groups; ++group) {
    Step::template step<rows>(value, weight, sums);
    value += Step::group * rows;
    weight += Step::group * kPanelColumns;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j].store(c + r * kPanelColumns + j * kWidth);
  }
}

template <class Step, int... row>
constexpr TileKernels tiles_of(Arithmetic arithmetic, std::integer_sequence<int, row...>) {
  return {arithmetic, static_cast<int>(sizeof...(row)), {nullptr, &tile<Step, row + 1>...}};
}

template <class Step>
constexpr TileKernels tiles(Arithmetic arithmetic) {
  return tiles_of<Step>(arithmetic, std::make_integer_sequence<int, kTileRows>());
}

// ---- Conversions ----

template <class T>
inline void widen(const T* source, int64_t count, float* values) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) Vector::load(source + i).store(values + i);
  for (; i < count; ++i) values[i] = static_cast<float>(source[i]);
}

template <class T>
inline void narrow(const float* values, int64_t count, T* target) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) Vector::load(values + i).store(target + i);
  for (; i < count; ++i) target[i] = T(values[i]);
}

void to_f32(DType dtype, const void* source, int64_t count, float* values) {
  switch (dtype) {
    case DType::f16: return widen(static_cast<const f16*>(source), count, values);
    case DType::bf16: return widen(static_cast<const bf16*>(source), count, values);
    default: std::memcpy(values, source, static_cast<size_t>(count) * sizeof(float));
  }
}

void from_f32(DType dtype, const float* values, int64_t count, void* target) {
  switch (dtype) {
    case DType::f16: return narrow(values, count, static_cast<f16*>(target));
    case DType::bf16: return narrow(values, count, static_cast<bf16*>(target));
    default: std::memcpy(target, values, static_cast<size_t>(count) * sizeof(float));
  }
}

constexpr int64_t kChunk = 512;

struct BF16Pair {
  bf16 even, odd;
};

// Places `count` elements of a row, from element `first` on, into a tile whose elements are `Unit`s of one k group.
template <class Unit>
inline void scatter(const Unit* source, int64_t count, int64_t first, void* tile, int row, int rows) {
  Unit* target = static_cast<Unit*>(tile) + first * rows + row;
  for (int64_t i = 0; i < count; ++i) target[i * rows] = source[i];
}

void pack_row(Arithmetic arithmetic, DType dtype, const void* source, int64_t k, int64_t padded_k, void* tile, int row,
              int rows) {
  const char* bytes = static_cast<const char*>(source);
  const int64_t element = static_cast<int64_t>(info(dtype).bytes);
  if (arithmetic == Arithmetic::bf16_pairs && dtype == DType::bf16 && k == padded_k) {
    return scatter(static_cast<const BF16Pair*>(source), k / 2, 0, tile, row, rows);
  }
  alignas(64) float values[kChunk];
  alignas(64) bf16 halves[kChunk];
  for (int64_t begin = 0; begin < padded_k; begin += kChunk) {
    const int64_t length = std::min(kChunk, padded_k - begin);
    const int64_t present = std::max<int64_t>(0, std::min(length, k - begin));
    to_f32(dtype, bytes + begin * element, present, values);
    std::fill(values + present, values + length, 0.0f);
    if (arithmetic == Arithmetic::f32) {
      scatter(values, length, begin, tile, row, rows);
    } else {
      narrow(values, length, halves);
      scatter(reinterpret_cast<const BF16Pair*>(halves), length / 2, begin / 2, tile, row, rows);
    }
  }
}

void pack_columns(Arithmetic arithmetic, const float* c, int64_t first_k, int64_t count, void* tile, int rows) {
  for (int r = 0; r < rows; ++r, c += kPanelColumns) {
    if (arithmetic == Arithmetic::f32) {
      scatter(c, count, first_k, tile, r, rows);
    } else {
      alignas(64) bf16 halves[kPanelColumns];
      for (int j = 0; j < kPanelColumns; j += kWidth) Vector::load(c + j).store(halves + j);
      scatter(reinterpret_cast<const BF16Pair*>(halves), count / 2, first_k / 2, tile, r, rows);
    }
  }
}

// ---- Activations ----

// e^x within 2 units in the last place; Cephes' polynomial. Below -87.3 the smallest normal number, NaN stays NaN.
inline Vector exp(Vector x) {
  x = Vector::max(Vector::broadcast(-87.3f), Vector::min(Vector::broadcast(88.3f), x));
  const Vector n = (x * Vector::broadcast(1.44269504088896341f)).round();
  Vector r = Vector::fma(n, Vector::broadcast(-0.693359375f), x);
  r = Vector::fma(n, Vector::broadcast(2.12194440e-4f), r);
  Vector p = Vector::broadcast(1.9875691500e-4f);
  p = Vector::fma(p, r, Vector::broadcast(1.3981999507e-3f));
  p = Vector::fma(p, r, Vector::broadcast(8.3334519073e-3f));
  p = Vector::fma(p, r, Vector::broadcast(4.1665795894e-2f));
  p = Vector::fma(p, r, Vector::broadcast(1.6666665459e-1f));
  p = Vector::fma(p, r, Vector::broadcast(5.0000001201e-1f));
  p = Vector::fma(p, r * r, r + Vector::broadcast(1.0f));
  return p * n.exp2_integral();
}

struct Identity {
  static Vector apply(Vector x) { return x; }
};

struct Relu {
  static Vector apply(Vector x) { return Vector::max(Vector::zero(), x); }
};

struct Silu {
  static Vector apply(Vector x) { return x / (Vector::broadcast(1.0f) + exp(Vector::zero() - x)); }
};

// x/2 (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3).
struct GeluTanh {
  static Vector apply(Vector x) {
    const Vector u = Vector::fma(x * x * x, Vector::broadcast(0.044715f), x);
    return x / (Vector::broadcast(1.0f) + exp(u * Vector::broadcast(-1.5957691216057308f)));
  }
};

// x/2 (1 + erf(x / sqrt 2)), by erfc(z) = poly(1 / (1 + p z)) e^(-z^2) of Abramowitz and Stegun 7.1.26, which errs by
// less than 1.5e-7.
struct Gelu {
  static Vector apply(Vector x) {
    const Vector z = x.abs() * Vector::broadcast(0.70710678118654752f);
    const Vector t = Vector::broadcast(1.0f) / Vector::fma(Vector::broadcast(0.3275911f), z, Vector::broadcast(1.0f));
    Vector p = Vector::broadcast(1.061405429f);
    p = Vector::fma(p, t, Vector::broadcast(-1.453152027f));
    p = Vector::fma(p, t, Vector::broadcast(1.421413741f));
    p = Vector::fma(p, t, Vector::broadcast(-0.284496736f));
    p = Vector::fma(p, t, Vector::broadcast(0.254829592f));
    const Vector half_erfc = Vector::broadcast(0.5f) * p * t * exp(Vector::zero() - z * z);
    return x * Vector::select_negative(x, half_erfc, Vector::broadcast(1.0f) - half_erfc);
  }
};

inline Vector biased(const float* c, const float* bias) {
  return bias == nullptr ? Vector::load(c) : Vector::load(c) + Vector::load(bias);
}

template <class Function>
inline void activate_plain(const float* bias, float* c, int rows) {
  for (int r = 0; r < rows; ++r, c += kPanelColumns) {
    for (int j = 0; j < kPanelColumns; j += kWidth) {
      Function::apply(biased(c + j, bias == nullptr ? nullptr : bias + j)).store(c + j);
    }
  }
}

// The first vector holds gate columns, the second up columns.
template <class Function>
inline void activate_gated(const float* bias, float* c, int rows) {
  for (int r = 0; r < rows; ++r, c += kPanelColumns) {
    const Vector gate = biased(c, bias);
    const Vector up = biased(c + kWidth, bias == nullptr ? nullptr : bias + kWidth);
    (Function::apply(gate) * up).store(c);
  }
}

void activate(Activation activation, const float* bias, float* c, int rows) {
  switch (activation) {
    case Activation::none:
      if (bias != nullptr) activate_plain<Identity>(bias, c, rows);
      return;
    case Activation::relu: return activate_plain<Relu>(bias, c, rows);
    case Activation::gelu: return activate_plain<Gelu>(bias, c, rows);
    case Activation::gelu_tanh: return activate_plain<GeluTanh>(bias, c, rows);
    case Activation::silu: return activate_plain<Silu>(bias, c, rows);
    case Activation::swiglu: return activate_gated<Silu>(bias, c, rows);
    case Activation::geglu: return activate_gated<Gelu>(bias, c, rows);
    case Activation::geglu_tanh: return activate_gated<GeluTanh>(bias, c, rows);
  }
}

// ---- Gating ----

// An integer that orders like the logit: -0 equals +0, NaN is below -infinity, and INT32_MIN, a chosen expert, is last.
inline int32_t rank_of(float logit) {
  const int32_t bits = static_cast<int32_t>(float_bits(logit + 0.0f));
  const int32_t ordered = bits ^ ((bits >> 31) & INT32_MAX);
  return logit != logit ? INT32_MIN + 1 : ordered;
}

// A row's ranks in blocks of kRankBlock, and the largest rank of every block in blocks of their own: finding the
// largest of all and taking it out touches one block of each.
struct RankedRow {
  int32_t* ranks;
  int32_t* largest;
  int32_t blocks;
};

inline RankedRow rank_row(const float* logits, int32_t experts, int32_t* scratch) {
  RankedRow row{scratch, scratch + whole_blocks(experts), static_cast<int32_t>(whole_blocks(experts)) / kRankBlock};
  for (int32_t e = 0; e < experts; ++e) row.ranks[e] = rank_of(logits[e]);
  std::fill(row.ranks + experts, row.ranks + row.blocks * kRankBlock, INT32_MIN);
  for (int32_t b = 0; b < row.blocks; ++b) row.largest[b] = RankBlock::load(row.ranks + b * kRankBlock).largest();
  std::fill(row.largest + row.blocks, row.largest + whole_blocks(row.blocks), INT32_MIN);
  return row;
}

// Takes the largest rank out of the row and returns its expert: of equal ones the first.
inline int32_t take_largest(const RankedRow& row) {
  const int32_t groups = static_cast<int32_t>(whole_blocks(row.blocks)) / kRankBlock;
  int32_t top = INT32_MIN;
  for (int32_t g = 0; g < groups; ++g) top = std::max(top, RankBlock::load(row.largest + g * kRankBlock).largest());
  int32_t* group = row.largest;
  RankBlock largest = RankBlock::load(group);
  while (!largest.contains(top)) largest = RankBlock::load(group += kRankBlock);
  const int block_lane = largest.first(top);
  const int32_t block = static_cast<int32_t>(group - row.largest) + block_lane;
  RankBlock ranks = RankBlock::load(row.ranks + block * kRankBlock);
  const int lane = ranks.first(top);
  ranks.replace(lane, INT32_MIN);
  ranks.store(row.ranks + block * kRankBlock);
  largest.replace(block_lane, ranks.largest());
  largest.store(group);
  return block * kRankBlock + lane;
}

// The sum over a row of e^(logit - top) of finite top. NaN and -infinity count as the lowest number, whose share is
// none.
inline float sum_of_exponentials(const float* logits, int32_t experts, float top) {
  const Vector lowest = Vector::broadcast(-3.4e38f), shift = Vector::broadcast(top);
  Vector lanes = Vector::zero();
  int32_t e = 0;
  for (; e + kWidth <= experts; e += kWidth) lanes = lanes + exp(Vector::max(Vector::load(logits + e), lowest) - shift);
  alignas(64) float buffer[kWidth];
  if (e < experts) {
    std::fill(std::copy(logits + e, logits + experts, buffer), buffer + kWidth, -INFINITY);
    lanes = lanes + exp(Vector::max(Vector::load(buffer), lowest) - shift);
  }
  lanes.store(buffer);
  float sum = 0;
  for (const float lane : buffer) sum += lane;
  return sum;
}

// Weights of the chosen experts before scaling: e^(logit - top); NaN and -infinity have no weight, and where the top is
// +infinity only what equals it has. Returns their sum.
inline float weigh_chosen(const float* logits, const int32_t* ids, int32_t top_k, float top, float* weights) {
  alignas(64) float buffer[kWidth];
  float sum = 0;
  for (int32_t begin = 0; begin < top_k; begin += kWidth) {
    const int32_t count = std::min<int32_t>(kWidth, top_k - begin);
    for (int32_t j = 0; j < kWidth; ++j) buffer[j] = j < count ? logits[ids[begin + j]] - top : 0.0f;
    exp(Vector::load(buffer)).store(buffer);
    for (int32_t j = 0; j < count; ++j) {
      const float logit = logits[ids[begin + j]];
      const float weight = logit == top ? 1.0f : logit > -INFINITY && top < INFINITY ? buffer[j] : 0.0f;
      weights[begin + j] = weight;
      sum += weight;
    }
  }
  return sum;
}

inline bool any_finite(const float* logits, int32_t experts) {
  for (int32_t e = 0; e < experts; ++e) {
    if (std::fabs(logits[e]) < INFINITY) return true;
  }
  return false;
}

// Returns false where no logit is finite.
inline bool weigh(const float* logits, int32_t experts, const GatingRule& rule, const int32_t* ids, float* weights) {
  const float top = logits[ids[0]];
  // The largest is finite wherever any logit is, unless it is +infinity.
  if (!(std::fabs(top) < INFINITY) && !(top > 0 && any_finite(logits, experts))) {
    std::fill(weights, weights + rule.top_k, 0.0f);
    return false;
  }
  float sum = weigh_chosen(logits, ids, rule.top_k, top, weights);
  if (rule.scoring == Scoring::softmax && !rule.normalize) {
    // With normalize the sum over all experts cancels.
    sum = top < INFINITY ? sum_of_exponentials(logits, experts, top)
                         : static_cast<float>(std::count(logits, logits + experts, top));
  }
  const float factor = rule.scale / sum;
  for (int32_t j = 0; j < rule.top_k; ++j) weights[j] *= factor;
  return true;
}

int32_t gate(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, int32_t* ids, float* weights,
             int32_t* scratch) {
  RankedRow rows[kGateTokens];
  const int64_t row_scratch = rank_scratch(experts) / kGateTokens;
  for (int32_t t = 0; t < tokens; ++t)
    rows[t] = rank_row(logits + int64_t{t} * experts, experts, scratch + t * row_scratch);
  // Side by side, since each choice waits for the one before.
  for (int32_t j = 0; j < rule.top_k; ++j) {
    for (int32_t t = 0; t < tokens; ++t) ids[t * rule.top_k + j] = take_largest(rows[t]);
  }
  int32_t not_finite = 0;
  for (int32_t t = 0; t < tokens; ++t) {
    const int32_t slot = t * rule.top_k;
    not_finite += weigh(logits + int64_t{t} * experts, experts, rule, ids + slot, weights + slot) ? 0 : 1;
  }
  return not_finite;
}

// ---- Combine ----

template <class T>
inline void combine_rows(const void* const* rows, const float* weights, int32_t top_k, int64_t count, float* y) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    Vector sum = Vector::zero();
    for (int32_t j = 0; j < top_k; ++j) {
      if (rows[j] == nullptr) continue;
      sum = Vector::fma(Vector::broadcast(weights[j]), Vector::load(static_cast<const T*>(rows[j]) + i), sum);
    }
    sum.store(y + i);
  }
  for (; i < count; ++i) {
    float sum = 0;
    for (int32_t j = 0; j < top_k; ++j) {
      if (rows[j] != nullptr) sum += weights[j] * static_cast<float>(static_cast<const T*>(rows[j])[i]);
    }
    y[i] = sum;
  }
}

void combine(DType dtype, const void* const* rows, const float* weights, int32_t top_k, int64_t count, float* y) {
  switch (dtype) {
    case DType::f16: return combine_rows<f16>(rows, weights, top_k, count, y);
    case DType::bf16: return combine_rows<bf16>(rows, weights, top_k, count, y);
    default: return combine_rows<float>(rows, weights, top_k, count, y);
  }
}

// ---- Ceilings ----

// Multiplies one tile's rows by the same operands over and over, out of registers and the first cache.
template <class Step, int rows>
void peak(int64_t iterations) {
  alignas(64) static constexpr typename Step::Value kX[Step::group * rows] = {};
  alignas(64) static constexpr typename Step::Weight kW[Step::group * kPanelColumns] = {};
  // Read anew in every iteration, so that the compiler cannot know that nothing changes.
  const typename Step::Value* volatile x = kX;
  const typename Step::Weight* volatile w = kW;
  Sums<rows> sums = {};
  for (int64_t i = 0; i < iterations; ++i) Step::template step<rows>(x, w, sums);
  alignas(64) float sink[kPanelColumns];
  Vector total = Vector::zero();
  for (int r = 0; r < rows; ++r) total = total + sums[r][0] + sums[r][1];
  total.store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}

template <class Step>
constexpr PeakLoop peak_loop() {
  return {&peak<Step, kTileRows>, 2.0 * Step::group * kTileRows * kPanelColumns};
}

void read_stream(const char* bytes, int64_t count) {
  Vector sums[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  const float* values = reinterpret_cast<const float*>(bytes);
  const int64_t floats = count / static_cast<int64_t>(sizeof(float));
  for (int64_t i = 0; i + 4 * kWidth <= floats; i += 4 * kWidth) {
    for (int j = 0; j < 4; ++j) sums[j] = sums[j] + Vector::load(values + i + j * kWidth);
  }
  alignas(64) float sink[kWidth];
  (sums[0] + sums[1] + sums[2] + sums[3]).store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}
