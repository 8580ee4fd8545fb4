// The gradient of the grouped GEMM's weights: for each expert a product dy^T x, summed over the expert's rows in order,
// in float32. A block computes tiles of an expert's gradient; while the rows of one stage are multiplied, the next are
// on their way in registers.
#include <climits>

#include <ptx/launch.cuh>

#include "gpu/gemm/tile_map.cuh"
#include "gpu/operators.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 128;
// A tile's outputs (rows of the gradient) and columns, of which a thread has eight times eight.
constexpr int kTileOutputs = 64;
constexpr int kTileColumns = 128;
constexpr int kThreadsAcross = 16;
// Rows of dy and x per stage. Sixteen neighbouring threads load one row, in runs of four elements.
constexpr int kDepth = 8;
constexpr int kRun = 4;
constexpr int kThreadsPerRow = kThreads / kDepth;
constexpr int kRunStep = kThreadsPerRow * kRun;
constexpr int kOutputRuns = kTileOutputs / kRunStep;
constexpr int kColumnRuns = kTileColumns / kRunStep;
constexpr int kStageFloats = kDepth * (kTileOutputs + kTileColumns);
static_assert(kThreadsAcross * 8 == kTileColumns && kThreads / kThreadsAcross * 8 == kTileOutputs);

struct Arguments {
  const void* x;
  const void* output_gradient;
  DType x_dtype, output_gradient_dtype;
  const int* token_of_row;  // null: row r of the product is row r of x
  int64_t x_rows;
  IdError* token_error;
  const int* first_rows;  // [experts + 1], checked
  int64_t experts, outputs, columns;
  float* weight_gradient;
  float* bias_gradient;
  bool accumulate;
  bool aligned_x, aligned_output_gradient, aligned_weight_gradient;  // in runs
};

// The row of x that row `row` of the product has, or -1.
__device__ __forceinline__ int64_t token_of(const Arguments& a, int64_t row) {
  return a.token_of_row == nullptr ? row : checked_id(a.token_of_row[row], a.x_rows, row, a.token_error);
}

class GradientTile {
 public:
  __device__ GradientTile(const Arguments& a, int expert, int output_tile, int column_tile)
      : a_(a),
        shared_(ptx::dynamic_shared<float>()),
        expert_(expert),
        output_tile_(output_tile),
        column_tile_(column_tile),
        begin_(a.first_rows[expert]),
        end_(a.first_rows[expert + 1]) {}

  __device__ void compute() {
    start_sums();
    const int stages = (end_ - begin_) / kDepth + ((end_ - begin_) % kDepth != 0);
    if (stages > 0) {
      load_stage(0);
      store_stage(0);
      __syncthreads();
    }
    for (int stage = 0; stage < stages; ++stage) {
      const bool more = stage + 1 < stages;
      if (more) load_stage(stage + 1);
      multiply_stage(shared_ + stage % 2 * kStageFloats);
      if (more) store_stage(stage + 1);
      __syncthreads();
    }
    store_sums();
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ int64_t tile_output() const { return static_cast<int64_t>(output_tile_) * kTileOutputs; }
  __device__ int64_t tile_column() const { return static_cast<int64_t>(column_tile_) * kTileColumns; }
  // What this thread loads.
  __device__ static int stage_row() { return thread() / kThreadsPerRow; }
  __device__ static int run(int i) { return thread() % kThreadsPerRow * kRun + i * kRunStep; }
  // What it computes: eight outputs, and four columns in each half of the tile.
  __device__ static int first_output() { return thread() / kThreadsAcross * 8; }
  __device__ static int first_column(int half) { return half * (kTileColumns / 2) + thread() % kThreadsAcross * 4; }

  // Calls use(address, columns that exist, four sums) for the thread's sums that exist.
  template <class Use>
  __device__ void for_each_run(Use&& use) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int64_t output = tile_output() + first_output() + i;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t column = tile_column() + first_column(half);
        if (output >= a_.outputs || column >= a_.columns) continue;
        use(a_.weight_gradient + (expert_ * a_.outputs + output) * a_.columns + column, a_.columns - column,
            sums_[i][half]);
      }
    }
  }

  __device__ void start_sums() {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sums_[i][j / 4][j % 4] = 0.0f;
    }
    if (!a_.accumulate) return;
    for_each_run([&](const float* address, int64_t count, float(&sums)[4]) {
      load_up_to(address, count, a_.aligned_weight_gradient, sums);
    });
  }

  __device__ void store_sums() {
    for_each_run([&](float* address, int64_t count, const float(&sums)[4]) {
      store_up_to(address, count, a_.aligned_weight_gradient, sums);
    });
  }

  // A row without a token has no gradient: both operands are zeros, whatever dy holds.
  __device__ void load_stage(int stage) {
    const int64_t row = begin_ + static_cast<int64_t>(stage) * kDepth + stage_row();
    const int64_t token = row < end_ ? token_of(a_, row) : -1;
    load_runs(a_.output_gradient, a_.output_gradient_dtype, token < 0 ? -1 : row, a_.outputs, tile_output(),
              a_.aligned_output_gradient, next_outputs_);
    load_runs(a_.x, a_.x_dtype, token, a_.columns, tile_column(), a_.aligned_x, next_columns_);
  }

  template <int kRuns>
  __device__ static void load_runs(const void* matrix, DType dtype, int64_t row, int64_t columns, int64_t first,
                                   bool aligned, float (&values)[kRuns][kRun]) {
    switch (dtype) {
      case DType::f16: return load_runs(static_cast<const f16*>(matrix), row, columns, first, aligned, values);
      case DType::bf16: return load_runs(static_cast<const bf16*>(matrix), row, columns, first, aligned, values);
      default: return load_runs(static_cast<const float*>(matrix), row, columns, first, aligned, values);
    }
  }
  template <class T, int kRuns>
  __device__ static void load_runs(const T* matrix, int64_t row, int64_t columns, int64_t first, bool aligned,
                                   float (&values)[kRuns][kRun]) {
    const T* begin = matrix + (row < 0 ? 0 : row * columns + first);
    const int64_t count = row < 0 ? 0 : columns - first;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) load_up_to(begin + run(i), count - run(i), aligned, values[i]);
  }

  __device__ void store_stage(int stage) {
    float* outputs = shared_ + stage % 2 * kStageFloats;
    float* columns = outputs + kDepth * kTileOutputs;
#pragma unroll
    for (int i = 0; i < kOutputRuns; ++i) store_run(outputs + stage_row() * kTileOutputs + run(i), next_outputs_[i]);
#pragma unroll
    for (int i = 0; i < kColumnRuns; ++i) store_run(columns + stage_row() * kTileColumns + run(i), next_columns_[i]);
  }
  __device__ static void store_run(float* shared, const float (&values)[kRun]) {
    ptx::st_shared_128(
        shared, uint4{float_bits(values[0]), float_bits(values[1]), float_bits(values[2]), float_bits(values[3])});
  }
  __device__ static void read_run(const float* shared, float (&values)[kRun]) {
    const uint4 words = ptx::ld_shared_128(shared);
    values[0] = float_from_bits(words.x);
    values[1] = float_from_bits(words.y);
    values[2] = float_from_bits(words.z);
    values[3] = float_from_bits(words.w);
  }

  __device__ void multiply_stage(const float* outputs) {
    const float* columns = outputs + kDepth * kTileOutputs;
#pragma unroll
    for (int row = 0; row < kDepth; ++row) {
      float dy[2][4], x[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        read_run(outputs + row * kTileOutputs + first_output() + half * 4, dy[half]);
        read_run(columns + row * kTileColumns + first_column(half), x[half]);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float& sum = sums_[i][j / 4][j % 4];
          sum = fmaf(dy[i / 4][i % 4], x[j / 4][j % 4], sum);
        }
      }
    }
  }

  const Arguments& a_;
  float* shared_;
  int expert_, output_tile_, column_tile_;
  int begin_, end_;
  float next_outputs_[kOutputRuns][kRun];
  float next_columns_[kColumnRuns][kRun];
  float sums_[8][2][4];
};

// With room for three blocks it would spill.
MOE_KERNEL(weight_gradient_kernel, (kThreads, 2), const Arguments a) {
  const int64_t across = (a.columns + kTileColumns - 1) / kTileColumns;
  const int64_t of_expert = (a.outputs + kTileOutputs - 1) / kTileOutputs * across;
  for (int64_t tile = blockIdx.x; tile < a.experts * of_expert; tile += gridDim.x) {
    const int64_t within = tile % of_expert;
    GradientTile(a, static_cast<int>(tile / of_expert), static_cast<int>(within / across),
                 static_cast<int>(within % across))
        .compute();
  }
}

// One thread for a column of an expert's dy, block of rows by block.
MOE_KERNEL(bias_gradient_kernel, (kThreads), const Arguments a) {
  for_each_item(a.experts * a.outputs, [&](int64_t item) {
    const int64_t expert = item / a.outputs, column = item % a.outputs;
    const int end = a.first_rows[expert + 1];
    float total = a.accumulate ? a.bias_gradient[item] : 0.0f;
    for (int64_t block = a.first_rows[expert]; block < end; block += kBiasGradientRows) {
      float sum = 0.0f;
      for (int64_t row = block; row < end && row < block + kBiasGradientRows; ++row) {
        if (token_of(a, row) < 0) continue;
        sum += load_as_float(a.output_gradient, a.output_gradient_dtype, row * a.outputs + column);
      }
      total += sum;
    }
    a.bias_gradient[item] = total;
  });
}

bool runs_aligned(const TensorView& matrix, int64_t pitch) {
  const uint64_t bytes = kRun * info(matrix.dtype).bytes;
  return reinterpret_cast<uint64_t>(matrix.data) % bytes == 0 && pitch % kRun == 0;
}

}  // namespace

Status run(Context& context, const GroupedGemmWeightBackward& p) {
  const int64_t experts = p.d_weight.shape[0], rows = p.dy.shape[0];
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  // The map's table of first rows is all that is read.
  constexpr int kWholeExperts = INT_MAX;
  Scratch map(*context.runtime);
  MOE_TRY(map.reserve(gpu::tile_map_bytes(rows, experts, kWholeExperts)));
  gpu::IdError* error = context.errors.next(
      {.parameter = "groupedGemmWeightBackward: offsets", .what = nullptr, .limit = rows, .columns = 0});
  MOE_TRY(launch_tile_map({p.offsets.as<int>(), experts, rows}, {.group = {0, experts}}, kWholeExperts, map.at(0),
                          error, traits.max_threads, stream));
  const Arguments arguments{
      .x = p.x.data,
      .output_gradient = p.dy.data,
      .x_dtype = p.x.dtype,
      .output_gradient_dtype = p.dy.dtype,
      .token_of_row = p.token_of_row.as<int>(),
      .x_rows = p.x.shape[0],
      .token_error = context.errors.next(
          {.parameter = "groupedGemmWeightBackward: tokenOfRow", .what = "a row", .limit = p.x.shape[0], .columns = 0}),
      .first_rows = gpu::first_rows_of(map.at(0), rows, experts, kWholeExperts) + 1,
      .experts = experts,
      .outputs = p.dy.shape[1],
      .columns = p.x.shape[1],
      .weight_gradient = p.d_weight.as<float>(),
      .bias_gradient = p.d_bias.as<float>(),
      .accumulate = p.accumulate,
      .aligned_x = runs_aligned(p.x, p.x.shape[1]),
      .aligned_output_gradient = runs_aligned(p.dy, p.dy.shape[1]),
      .aligned_weight_gradient = runs_aligned(p.d_weight, p.x.shape[1]),
  };
  const int64_t tiles =
      experts * gpu::ceil_div(arguments.outputs, kTileOutputs) * gpu::ceil_div(arguments.columns, kTileColumns);
  if (tiles > 0) {
    MOE_TRY(launch("weight_gradient", weight_gradient_kernel, dim3(gpu::capped_grid(tiles, 16, traits)), dim3(kThreads),
                   2 * kStageFloats * sizeof(float), stream, arguments));
  }
  if (p.d_bias.absent() || p.d_bias.size() == 0) return {};
  return launch("bias_gradient", bias_gradient_kernel,
                dim3(gpu::capped_grid(gpu::ceil_div(experts * arguments.outputs, kThreads), 32, traits)),
                dim3(kThreads), 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
