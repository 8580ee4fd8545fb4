#include "core/operators/activation.h"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/activation_gradient.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/tensor_rows.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Columns per thread.
constexpr int kColumns = 4;

// The gate half and the up half begin at multiples of `outputs`.
using Rows = TensorRows<kColumns>;

// The clamps of rows: those of the shared experts have one of their own.
struct RowClamps {
  Clamp routed, shared;
  const int32_t* first_shared;  // the first row of theirs; null: none

  __device__ __forceinline__ Clamp of(int64_t row) const {
    return first_shared != nullptr && row >= *first_shared ? shared : routed;
  }
};

template <class Operator>
RowClamps row_clamps(const Operator& p) {
  return {p.clamp, p.shared_clamp, first_shared_row(p.offsets, p.shared_experts)};
}

struct Arguments {
  Rows pre, multiplier, inner;
  Activation activation;
  bool gated;
  RowClamps clamps;
  int64_t rows, outputs;
};

MOE_KERNEL(activate_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_run<kColumns>(a.rows, a.outputs, [&](int64_t row, int64_t column) {
    const int64_t count = a.outputs - column;
    const Clamp clamp = a.clamps.of(row);
    float values[kColumns], factors[kColumns];
    a.pre.load(row, column, count, values);
    activate(a.activation, clamp, values);
    const auto multiply = [&] {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) values[i] *= factors[i];
    };
    if (a.gated) {
      a.pre.load(row, a.outputs + column, count, factors);
      to_factors(a.activation, clamp, factors);
      multiply();
    }
    if (a.multiplier.data != nullptr) {
      a.multiplier.load(row, column, count, factors);
      multiply();
    }
    a.inner.store(row, column, count, values);
  });
}

struct GradientArguments {
  Rows pre, multiplier, d_inner, d_pre, d_multiplier, inner;
  RowClamps clamps;
  int64_t rows, outputs;
};

template <Activation kActivation, bool kGated>
MOE_KERNEL(activation_backward_kernel, (gpu::kRowThreads, 8), const GradientArguments a) {
  for_each_run<kColumns>(a.rows, a.outputs, [&](int64_t row, int64_t column) {
    const int64_t count = a.outputs - column;
    const Clamp clamp = is_clamped(kActivation) ? a.clamps.of(row) : Clamp{};
    float gates[kColumns], d_inner[kColumns], inner[kColumns];
    float ups[kColumns] = {1.0f, 1.0f, 1.0f, 1.0f}, multipliers[kColumns] = {1.0f, 1.0f, 1.0f, 1.0f};
    a.pre.load(row, column, count, gates);
    if constexpr (kGated) a.pre.load(row, a.outputs + column, count, ups);
    if (a.multiplier.data != nullptr) a.multiplier.load(row, column, count, multipliers);
    a.d_inner.load(row, column, count, d_inner);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const ActivatedGate gate = activated_gate<kActivation>(gates[i], clamp);
      const float soft_up = kActivation == Activation::situ ? softly_limited(ups[i], clamp.up_limit) : 0.0f;
      const ActivationGradient gradient =
          activation_gradient(kActivation, clamp, gates[i], gate, ups[i], soft_up, multipliers[i], d_inner[i]);
      gates[i] = gradient.gate;
      ups[i] = gradient.up;
      multipliers[i] = gradient.multiplier;
      inner[i] = gradient.inner;
    }
    a.d_pre.store(row, column, count, gates);
    if constexpr (kGated) a.d_pre.store(row, a.outputs + column, count, ups);
    if (a.d_multiplier.data != nullptr) a.d_multiplier.store(row, column, count, multipliers);
    if (a.inner.data != nullptr) a.inner.store(row, column, count, inner);
  });
}

}  // namespace

Status run(Context& context, const Activate& p) {
  const int64_t rows = p.inner.shape[0], outputs = p.inner.shape[1];
  const Arguments arguments{.pre = {p.pre, outputs},
                            .multiplier = {p.multiplier, outputs},
                            .inner = {p.inner, outputs},
                            .activation = p.activation,
                            .gated = is_gated(p.activation),
                            .clamps = row_clamps(p),
                            .rows = rows,
                            .outputs = outputs};
  const gpu::ColumnPlan plan = gpu::plan_columns(rows, outputs, kColumns, context.traits());
  return launch("activate", activate_kernel, dim3(plan.grid_rows, plan.grid_columns), dim3(plan.threads), 0,
                context.stream(), arguments);
}

Status run(Context& context, const ActivationBackward& p) {
  const int64_t rows = p.d_inner.shape[0], outputs = p.d_inner.shape[1];
  const GradientArguments arguments{.pre = {p.pre, outputs},
                                    .multiplier = {p.multiplier, outputs},
                                    .d_inner = {p.d_inner, outputs},
                                    .d_pre = {p.d_pre, outputs},
                                    .d_multiplier = {p.d_multiplier, outputs},
                                    .inner = {p.inner, outputs},
                                    .clamps = row_clamps(p),
                                    .rows = rows,
                                    .outputs = outputs};
  const gpu::ColumnPlan plan = gpu::plan_columns(rows, outputs, kColumns, context.traits());
  return dispatch_activation(p.activation, [&](auto activation) {
    return launch("activation_backward", activation_backward_kernel<activation, is_gated(activation)>,
                  dim3(plan.grid_rows, plan.grid_columns), dim3(plan.threads), 0, context.stream(), arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
