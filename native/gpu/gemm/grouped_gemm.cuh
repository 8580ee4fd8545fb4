// Grouped GEMM: one matrix product per expert over its rows.
#pragma once

#include "core/operators/problem.h"
#include "gpu/gemm/grouped_gemm_arguments.cuh"
#include "gpu/plan/plan.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct GroupedGemmOperands {
  const void* x;  // [x_rows, plan.x_pitch] of plan.x_dtype
  int64_t x_rows;
  TensorView token_of_row;  // [R] i32, or absent
  const void* weight;       // packed
  ExpertProduct weights;
  TensorView bias;  // [E, rows], or absent
  void* y;          // [R, y_pitch]
  DType y_dtype;
  int64_t y_pitch;
  // See Epilogue.
  const float* weight_of_row = nullptr;
  bool multiplies_y = false;
};

// `map` is the tile map of the rows in tiles of plan.tile.rows.
Status launch_grouped_gemm(const GroupedGemmOperands& operands, const gpu::GemmPlan& plan, const void* map,
                           gpu::IdError* token_error, Stream stream);

// One kernel each: on tensor cores, and in float32 FMA with x in float32 and weights of any type.
Status launch_gemm_mma(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream);
Status launch_gemm_fma(const GemmArguments& arguments, const gpu::GemmPlan& plan, DType weight, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
