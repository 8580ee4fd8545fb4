// Makes results of a panel's sums and stores them, elsewhere in one go or in their place. See kernels.h here.

template <ResultStorage storage>
inline void store_result(Vector values, char* target) {
  if constexpr (storage == ResultStorage::bf16) {
    values.store(reinterpret_cast<bf16*>(target));
  } else if constexpr (storage == ResultStorage::streamed_f32) {
    values.stream(reinterpret_cast<float*>(target));
  } else {
    values.store(reinterpret_cast<float*>(target));
  }
}

// A row of sums as they are.
struct PlainRow {
  template <ResultStorage storage>
  static void store(const Vector (&sums)[kPanelVectors], const Clamp&, char* target) {
    constexpr int kBytes = kWidth * (storage == ResultStorage::bf16 ? sizeof(bf16) : sizeof(float));
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) store_result<storage>(sums[j], target + j * kBytes);
  }
};

// A row of gate columns and up columns.
template <class Function>
struct GatedRow {
  template <ResultStorage storage>
  static void store(const Vector (&sums)[kPanelVectors], const Clamp& clamp, char* target) {
    store_result<storage>(Function::apply(sums[0], sums[1], clamp), target);
  }
};

template <class Row, ResultStorage storage>
void finish_rows(Aside& aside, int count) {
  ResultRows& rows = static_cast<ResultRows&>(aside);
  const float *c = rows.c, *scales = rows.scales, *bias = rows.bias;
  const Clamp clamp = *rows.clamp;  // a copy, which no store changes
  const int64_t row_bytes = rows.row_bytes;
  char* target = rows.target;
  for (int r = 0; r < count; ++r, c += kPanelColumns, target += row_bytes) {
    Vector sums[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      sums[j] = Vector::load(c + j * kWidth);
      if (scales != nullptr) sums[j] = sums[j] * Vector::broadcast(scales[r]);
      sums[j] = biased(sums[j], bias == nullptr ? nullptr : bias + j * kWidth);
    }
    Row::template store<storage>(sums, clamp, target);
  }
  rows.rows -= count;
  rows.c += int64_t{count} * kPanelColumns;
  rows.target = target;
  if (scales != nullptr) rows.scales += count;
}

template <class Row>
Aside::Finish finishing_of(ResultStorage storage) {
  switch (storage) {
    case ResultStorage::f32: return finish_rows<Row, ResultStorage::f32>;
    case ResultStorage::streamed_f32: return finish_rows<Row, ResultStorage::streamed_f32>;
    case ResultStorage::bf16: return finish_rows<Row, ResultStorage::bf16>;
  }
  return nullptr;
}

Aside::Finish finishing(Activation activation, ActivationPart part, ResultStorage storage) {
  if (activation == Activation::none) return finishing_of<PlainRow>(storage);
  if (part != ActivationPart::whole) return nullptr;
  switch (activation) {
    case Activation::swiglu: return finishing_of<GatedRow<Product<Silu>>>(storage);
    case Activation::geglu: return finishing_of<GatedRow<Product<Gelu>>>(storage);
    case Activation::geglu_tanh: return finishing_of<GatedRow<Product<GeluTanh>>>(storage);
    case Activation::reglu: return finishing_of<GatedRow<Product<Relu>>>(storage);
    case Activation::swiglu_clamped: return finishing_of<GatedRow<ClampedSwiglu>>(storage);
    case Activation::swiglu_clamped_after: return finishing_of<GatedRow<SwigluClampedAfter>>(storage);
    case Activation::situ: return finishing_of<GatedRow<Situ>>(storage);
    default: return nullptr;
  }
}

void activate(Activation activation, ActivationPart part, const Clamp& clamp, const float* bias, float* c, int rows) {
  if (part == ActivationPart::up) return activate_up(activation, clamp, bias, c, rows);
  if (part == ActivationPart::gate || !is_gated(activation)) return activate_values(activation, clamp, bias, c, rows);
  ResultRows results;
  results.rows = rows;
  results.c = c;
  results.bias = bias;
  results.clamp = &clamp;
  results.target = reinterpret_cast<char*>(c);
  results.row_bytes = kPanelColumns * int64_t{sizeof(float)};
  finishing(activation, part, ResultStorage::f32)(results, rows);
}
