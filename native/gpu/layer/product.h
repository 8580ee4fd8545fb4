// One of a layer's products within a pass.
#pragma once

#include "gpu/layer/pass.h"

namespace moe::MOE_GPU_NAMESPACE {

struct ProductRows {
  TensorView x;
  TensorView token_of_row = {};   // absent: row r of the product is row r of x
  TensorView weight_of_row = {};  // multiplies the sums, or absent
  TensorView y;
  bool multiplies_y = false;
};

// Product `index` of layer_products().
Status multiply(const Pass& pass, size_t index, const ProductRows& rows);

}  // namespace moe::MOE_GPU_NAMESPACE
