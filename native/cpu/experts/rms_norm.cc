#include <cmath>

#include "core/operators/norms.h"
#include "cpu/operators.h"
#include "cpu/runtime/rows.h"

namespace moe::cpu {

namespace {

// Rows per piece of work.
constexpr int64_t kRowsAtOnce = 4;

// What brings a row to a root mean square of 1.
float row_scale(const Kernels& kernels, const float* row, int64_t hidden, float epsilon) {
  return 1.0f / std::sqrt(kernels.dot(row, row, hidden) / static_cast<float>(hidden) + epsilon);
}

// One thread's rows in float32.
struct Lines {
  float* x;
  float* dy;
  float* residual;
};

// With x' = x * scale and g = dy * factors: terms = dy * x', and dx = scale * (g - x' * mean(g * x')).
void run_row(const Kernels& kernels, const RmsNormBackward& p, int64_t row, const float* factors, const Lines& lines) {
  const int64_t hidden = p.x.shape[1];
  const auto [x, dy, residual] = lines;
  kernels.to_f32(p.x.dtype, p.x.at(row), hidden, x);
  kernels.to_f32(p.dy.dtype, p.dy.at(row), hidden, dy);
  const float scale = row_scale(kernels, x, hidden, p.epsilon);
  for (int64_t i = 0; i < hidden; ++i) x[i] *= scale;
  if (!p.terms.absent()) {
    auto* terms = reinterpret_cast<float*>(p.terms.at(row));
    for (int64_t i = 0; i < hidden; ++i) terms[i] = dy[i] * x[i];
  }
  if (p.dx.absent()) return;
  for (int64_t i = 0; i < hidden; ++i) dy[i] *= factors[i];
  const float mean = kernels.dot(dy, x, hidden) / static_cast<float>(hidden);
  for (int64_t i = 0; i < hidden; ++i) dy[i] = scale * (dy[i] - x[i] * mean);
  if (!p.residual.absent()) add_row(kernels, p.residual.dtype, p.residual.at(row), hidden, residual, dy);
  kernels.from_f32(p.dx.dtype, dy, hidden, p.dx.at(row));
}

// Calls use(row, factors, memory) for the rows of x on all threads. Normalised columns are multiplied by the factors,
// offset + weight. `memory` is the thread's own, with room for `lines` rows in float32.
template <class Operator, class Use>
Status for_each_row(Context& context, const Operator& p, int64_t lines, Use&& use) {
  const int64_t rows = p.x.shape[0], hidden = p.x.shape[1];
  float *factors = nullptr, *memory = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    factors = arena.take<float>(hidden);
    memory = arena.take<float>(lines * hidden * context.team.threads);
  }));
  context.kernels.to_f32(p.weight.dtype, p.weight.data, hidden, factors);
  for (int64_t i = 0; i < hidden; ++i) factors[i] += p.offset;
  context.team.for_pieces(rows, kRowsAtOnce, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) use(row, factors, memory + lines * hidden * thread);
  });
  return {};
}

}  // namespace

Status run(Context& context, const RmsNorm& p) {
  const Kernels& kernels = context.kernels;
  const int64_t hidden = p.x.shape[1];
  return for_each_row(context, p, 1, [&](int64_t row, const float* factors, float* line) {
    kernels.to_f32(p.x.dtype, p.x.at(row), hidden, line);
    const float scale = row_scale(kernels, line, hidden, p.epsilon);
    for (int64_t i = 0; i < hidden; ++i) line[i] = line[i] * scale * factors[i];
    kernels.from_f32(p.y.dtype, line, hidden, p.y.at(row));
  });
}

Status run(Context& context, const RmsNormBackward& p) {
  const int64_t hidden = p.x.shape[1];
  return for_each_row(context, p, 3, [&](int64_t row, const float* factors, float* lines) {
    run_row(context.kernels, p, row, factors, {.x = lines, .dy = lines + hidden, .residual = lines + 2 * hidden});
  });
}

}  // namespace moe::cpu
