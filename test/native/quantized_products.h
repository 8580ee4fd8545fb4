// Products of experts in a quantised format against its definition: a test for every device.
#pragma once

#include <cmath>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/backend.h"
#include "device_memory.h"
#include "random_weight.h"

namespace moe::test {

// Two experts, with gate and up where the activation has them.
class QuantizedProduct {
 public:
  QuantizedProduct(Backend& backend, const WeightFormat& format, int64_t outputs, int64_t columns,
                   Activation activation, TokenFormat tokens = TokenFormat::none)
      : backend_(backend), outputs_(outputs), columns_(columns), gated_(is_gated(activation)) {
    const int64_t rows = gated_ ? 2 * outputs : outputs;
    const ExpertProduct product{.experts = kExperts,
                                .rows = rows,
                                .columns = columns,
                                .format = &format,
                                .activation = activation,
                                .tokens = tokens};
    scheme_ = product.token_scheme();
    MOE_CHECK(backend.packed_experts(product, kManyProducts, &packed_).ok());
    for (int64_t expert = 0; expert < kExperts; ++expert) {
      const WeightView weight = draw(format);
      MOE_CHECK(packed_->set_expert(expert, weight, gated_ ? draw(format) : WeightView{}).ok());
    }
  }

  int64_t outputs() const { return outputs_; }
  int64_t columns() const { return columns_; }
  PackedExperts& packed() { return *packed_; }

  // The first `counts[0]` rows of x go to the first expert, the next `counts[1]` to the second.
  std::vector<float> multiply(const std::vector<float>& x, DType dtype, const int (&counts)[2]) {
    const int64_t rows = counts[0] + counts[1];
    const int offsets[kExperts + 1] = {0, counts[0], counts[0] + counts[1]};
    std::vector<char> stored(x.size() * info(dtype).bytes);
    for (size_t i = 0; i < x.size(); ++i) {
      const uint32_t bits = dtype == DType::f32   ? float_bits(x[i])
                            : dtype == DType::f16 ? f16(x[i]).bits
                                                  : bf16(x[i]).bits;
      memcpy(stored.data() + i * info(dtype).bytes, &bits, info(dtype).bytes);
    }
    DeviceMemory x_memory(backend_, stored.size()), offsets_memory(backend_, sizeof offsets);
    DeviceMemory y_memory(backend_, static_cast<size_t>(rows * outputs_) * sizeof(float));
    x_memory.write(stored.data());
    offsets_memory.write(offsets);
    GroupedGemm gemm;
    gemm.x = {x_memory.data(), dtype, 2, {rows, columns_}};
    gemm.weight = packed_.get();
    gemm.offsets = {offsets_memory.data(), DType::i32, 1, {kExperts + 1}};
    gemm.y = {y_memory.data(), DType::f32, 2, {rows, outputs_}};
    MOE_CHECK(backend_.run(gemm).ok());
    MOE_CHECK(backend_.synchronize().ok());
    const std::vector<char> bytes = y_memory.read();
    std::vector<float> y(bytes.size() / sizeof(float));
    memcpy(y.data(), bytes.data(), bytes.size());
    return y;
  }

  // The same in float64; the only gated activation is swiglu, the only other one none.
  std::vector<double> expected(const std::vector<float>& tokens, const int (&counts)[2]) const {
    const std::vector<double> x = rounded(tokens);
    std::vector<double> y;
    for (int64_t row = 0; row < counts[0] + counts[1]; ++row) {
      const size_t first = (row < counts[0] ? 0 : 1) * (gated_ ? 2 : 1);
      for (int64_t output = 0; output < outputs_; ++output) {
        const double gate = dot(weights_[first], output, x, row);
        y.push_back(gated_ ? gate / (1 + std::exp(-gate)) * dot(weights_[first + 1], output, x, row) : gate);
      }
    }
    return y;
  }

 private:
  static constexpr int64_t kExperts = 2;

  // Rows of tokens as the product rounds them.
  std::vector<double> rounded(const std::vector<float>& tokens) const {
    std::vector<double> x(tokens.begin(), tokens.end());
    const int64_t width = scheme_.columns == 0 ? columns_ : scheme_.columns;
    for (int64_t first = 0; scheme_.coded() && first < static_cast<int64_t>(x.size());) {
      const int64_t last = first + std::min(width, columns_ - first % columns_);
      uint32_t largest = 0;
      for (int64_t i = first; i < last; ++i) {
        largest = std::max(largest, magnitude_bits(tokens[static_cast<size_t>(i)]));
      }
      const float scale = token_scale(scheme_.format, largest);
      for (; first < last; ++first) {
        const auto i = static_cast<size_t>(first);
        x[i] = static_cast<double>(token_code(scheme_.format, tokens[i], scale)) * scale;
      }
    }
    return x;
  }

  double dot(const RandomWeight& weight, int64_t output, const std::vector<double>& x, int64_t row) const {
    double sum = 0;
    for (int64_t k = 0; k < columns_; ++k) {
      sum += static_cast<double>(weight.at(output, k)) * x[static_cast<size_t>(row * columns_ + k)];
    }
    return sum;
  }

  // A random weight, in memory of the device.
  WeightView draw(const WeightFormat& format) {
    WeightView view = weights_.emplace_back(random_, format, outputs_, columns_).view();
    for (MatrixView* matrix : {&view.codes, &view.scales, &view.super_scales, &view.zeros, &view.super_zeros}) {
      if (matrix->absent()) continue;
      const int64_t size = matrix->rows * matrix->columns * static_cast<int64_t>(info(matrix->dtype).bytes);
      DeviceMemory& memory = memory_.emplace_back(backend_, static_cast<size_t>(size));
      memory.write(matrix->data);
      matrix->data = memory.data();
    }
    return view;
  }

  Backend& backend_;
  int64_t outputs_, columns_;
  bool gated_;
  TokenScheme scheme_;
  Random random_{7};
  std::deque<RandomWeight> weights_;
  std::deque<DeviceMemory> memory_;
  std::unique_ptr<PackedExperts> packed_;
};

// Numbers that every dtype of tokens represents.
inline std::vector<float> random_tokens(Random& random, int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (float& value : x) value = static_cast<float>(random.below(255) - 127) / 64.0f;
  return x;
}

// Products with tokens of every dtype are within `tolerance` of the largest output. A row alone has the bits that it
// has among others, and so has every height of tiles: few, some and many rows for each expert.
inline void check_products(Backend& backend, const WeightFormat& format, int64_t outputs, int64_t columns,
                           Activation activation, std::vector<int> rows_of_expert, double tolerance,
                           TokenFormat tokens = TokenFormat::none) {
  QuantizedProduct product(backend, format, outputs, columns, activation, tokens);
  Random random(11);
  const std::vector<float> x = random_tokens(random, 2 * rows_of_expert.front() * columns);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const std::string name = std::string(format.name) + " x " + info(dtype).name + ", " + std::to_string(outputs) +
                             " x " + std::to_string(columns) + ", " + std::string(name_of(tokens)) + ": ";
    std::vector<float> most;
    for (const int rows : rows_of_expert) {
      const int counts[2] = {rows, rows};
      std::vector<float> own(x.begin(), x.begin() + 2 * rows * columns);
      // The second expert's rows are the same in every call.
      std::copy(x.begin(), x.begin() + rows * columns, own.begin() + rows * columns);
      const std::vector<float> y = product.multiply(own, dtype, counts);
      if (most.empty()) {
        most = y;
        const std::vector<double> expected = product.expected(own, counts);
        double largest = 0, error = 0;
        for (size_t i = 0; i < y.size(); ++i) {
          largest = std::max(largest, std::abs(expected[i]));
          const double distance = std::abs(y[i] - expected[i]);
          error = std::isnan(distance) ? HUGE_VAL : std::max(error, distance);
        }
        MOE_CHECK(largest > 0);
        if (error > tolerance * largest) {
          MOE_CHECK_EQUAL(name + "error " + std::to_string(error / largest), name + "no more than the tolerance");
        }
        continue;
      }
      const size_t size = static_cast<size_t>(rows * outputs);
      const bool same = std::equal(y.begin(), y.begin() + size, most.begin()) &&
                        std::equal(y.begin() + size, y.end(), most.begin() + most.size() / 2);
      if (!same) MOE_CHECK_EQUAL(name + std::to_string(rows) + " rows", name + "the bits of more rows");
    }
  }
}

}  // namespace moe::test
