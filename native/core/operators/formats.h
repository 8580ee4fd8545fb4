// To and from quantised formats; see lib/core/operators/formats.ts.
#pragma once

#include <cmath>

#include "core/formats/quantize.h"
#include "core/operators/fields.h"

namespace moe {

struct Quantize {
  static constexpr const char* kName = "quantize";

  MatrixView values;  // [rows, columns] float
  const WeightFormat* format = nullptr;
  bool search = false;
  TensorView codes;
  TensorView scales;
  TensorView super_scales;
  TensorView zeros;
  TensorView super_zeros;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("values", &Quantize::values);
    f.value("format", &Quantize::format);
    f.value("search", &Quantize::search);
    f.output("codes", &Quantize::codes, "[N, B] u8");
    f.output("scales", &Quantize::scales, "[R, C] any");
    f.optional_output("superScales", &Quantize::super_scales, "[S, D] any");
    f.optional_output("zeros", &Quantize::zeros, "[R, C] any");
    f.optional_output("superZeros", &Quantize::super_zeros, "[S, D] any");
  }

  // What is written, as a weight.
  WeightView weight() const {
    return {.format = format,
            .rows = values.rows,
            .columns = values.columns,
            .codes = whole_matrix(codes),
            .scales = whole_matrix(scales),
            .super_scales = whole_matrix(super_scales),
            .zeros = whole_matrix(zeros),
            .super_zeros = whole_matrix(super_zeros)};
  }

  Status check() const {
    if (!can_quantize(*format)) {
      return {Code::unsupported_dtype, std::string("quantize: expected a format with scales, got ") + format->name};
    }
    return expect_sizes(is_float(values.dtype) && fits_weight(weight()),
                        "quantize: expected a matrix of floats, and outputs that fit it in this format");
  }
};

struct Dequantize {
  static constexpr const char* kName = "dequantize";

  WeightView weight;
  TensorView values;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("weight", &Dequantize::weight);
    f.output("values", &Dequantize::values, "[N, K] float");
  }

  Status check() const {
    return expect_sizes(values.shape[0] == weight.rows && values.shape[1] == weight.columns,
                        "dequantize: values: expected the size of the weight");
  }
};

struct QuantizationError {
  static constexpr const char* kName = "quantizationError";

  MatrixView values;
  WeightView weight;
  TensorView error;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("values", &QuantizationError::values);
    f.value("weight", &QuantizationError::weight);
    f.output("error", &QuantizationError::error, "[1] f32");
  }

  Status check() const {
    return expect_sizes(is_float(values.dtype) && values.rows == weight.rows && values.columns == weight.columns,
                        "quantizationError: expected a matrix of floats of the weight's size");
  }
};

// The sums of one row, or of all: of the squares of the errors, and of the elements.
struct SquareSums {
  double errors = 0;
  double elements = 0;

  MOE_HOST_DEVICE void add(const SquareSums& other) {
    errors += other.errors;
    elements += other.elements;
  }
  MOE_HOST_DEVICE void add(float element, float dequantized) {
    const double error = static_cast<double>(dequantized) - element;
    errors += error * error;
    elements += static_cast<double>(element) * element;
  }
  // Exact zeros have no error.
  MOE_HOST_DEVICE float relative() const {
    return errors == 0 ? 0.0f : static_cast<float>(std::sqrt(errors / elements));
  }
};

}  // namespace moe
