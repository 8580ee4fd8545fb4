#include "cpu/isa/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

#include "check.h"
#include "core/formats/find_format.h"
#include "cpu/gemm/panels.h"
#include "cpu/gemm/product.h"
#include "cpu/isa/isa.h"
#include "random.h"
#include "random_weight.h"

namespace {

using namespace moe;
using namespace moe::cpu;

// Values that bfloat16 represents exactly, so that every arithmetic computes the same product; or integers of a byte.
std::vector<float> exact_values(test::Random& random, const GemmKernel& gemm, int64_t count) {
  const bool integers = gemm.codes == TokenFormat::int8;
  std::vector<float> values = random.values(count);
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  for (float& value : values) {
    value = integers ? std::round(value * (127.0f / largest)) : static_cast<float>(bf16(value));
  }
  return values;
}

struct Operands {
  Operands(const Kernels& kernels, const GemmKernel& gemm, const WeightFormat& format, int64_t columns_of_x)
      : k(columns_of_x),
        w(random, format, kPanels * kernels.panel_columns, k),
        x(exact_values(random, gemm, gemm.max_rows * k)) {
    const Team team{ThreadPool::shared(), 1};
    const ExpertProduct product{.experts = 1, .rows = kPanels * kernels.panel_columns, .columns = k, .format = &format};
    MOE_CHECK(CpuPackedExperts::create(product, kernels, team, true, &packed).ok());
    MOE_CHECK(packed->set_expert(0, w.view(), {}).ok());
  }

  static constexpr int kPanels = 4;
  test::Random random{11};
  int64_t k;
  test::RandomWeight w;
  std::vector<float> x;  // [rows, k]
  std::unique_ptr<CpuPackedExperts> packed;
};

// How tiles are computed.
enum class Way {
  at_once,
  in_blocks,
  past_caches,
  unpacked_blocks,
  blocks_in_parts,
  packed_blocks_in_parts,
  wide_blocks
};

const UnpackedTiles& unpacked_tiles(const GemmKernel& gemm, Way way) {
  return way == Way::blocks_in_parts ? gemm.in_parts : gemm.unpacked;
}

// Rows that a tile function finishes all of, or none.
struct CountedRows : Aside {
  static constexpr int kRows = 32;

  int finished = 0;

  CountedRows() { *static_cast<Aside*>(this) = {.rows = kRows, .finish = count}; }
  static void count(Aside& aside, int rows) {
    MOE_CHECK(rows > 0 && rows <= aside.rows);
    aside.rows -= rows;
    static_cast<CountedRows&>(aside).finished += rows;
  }
  void check() const {
    MOE_CHECK(rows == 0 || rows == kRows);
    MOE_CHECK_EQUAL(rows + finished, kRows);
  }
};

// The tiles of the first rows of x and each panel, [panel][row][column], computed by pack_row and the tile kernel.
std::vector<float> multiply(const Kernels& kernels, const GemmKernel& gemm, const Operands& operands, int rows,
                            int64_t k_block, Way way) {
  const PanelLayout& layout = operands.packed->layout();
  const int64_t k = layout.padded_k, x_k = round_up(k, k_group(gemm.arithmetic));
  std::vector<char> x(static_cast<size_t>(rows * packed_row_bytes(gemm, x_k)));
  for (int r = 0; r < rows; ++r) {
    kernels.pack_row(gemm.arithmetic, DType::f32, operands.x.data() + r * operands.k, operands.k, x_k, x.data(), r,
                     rows);
  }
  const int64_t tile = int64_t{rows} * kernels.panel_columns;
  std::vector<float> c(static_cast<size_t>(Operands::kPanels * tile), NAN);
  const int segment = std::max(1, layout.scales.segment);
  // Codes, then scales and offsets.
  const UnpackedTiles& tiles = unpacked_tiles(gemm, way);
  std::vector<char> unpacked(static_cast<size_t>((x_k * tiles.code_bytes + x_k / segment * 8) * kernels.panel_columns));
  const int sums_of_segment = rows * gemm.row_sums;
  std::vector<float> x_sums(static_cast<size_t>(k / segment * sums_of_segment), NAN);
  if (gemm.sums_x(layout.scales, rows)) gemm.sum_segments(x.data(), k / segment, segment, rows, x_sums.data());
  const bool unpacks = way == Way::unpacked_blocks || way == Way::blocks_in_parts;
  const int64_t panels = way == Way::wide_blocks ? gemm.wide_tile[rows].panels : 1;
  MOE_CHECK_EQUAL(Operands::kPanels % panels, 0);
  const int64_t step = way == Way::at_once ? k : k_block;
  for (int64_t panel = 0; panel < Operands::kPanels; panel += panels) {
    for (int64_t begin = 0; begin < k; begin += step) {
      const char* first = operands.packed->data() + panel * layout.panel_bytes;
      const int64_t count = std::min(step, k - begin);
      std::vector<char> expanded(static_cast<size_t>(layout.expanded_bytes(count)));
      const PanelParts parts = layout.parts(kernels, first, begin, count, expanded.data());
      TileArguments t{.first_k = begin,
                      .k = count,
                      .block_k = k_block,
                      .rows = rows,
                      .x = x.data() + begin * rows * element_bytes(gemm.arithmetic),
                      .w = parts.codes,
                      .c = c.data() + panel * tile,
                      .accumulate = begin > 0,
                      .panel_bytes = layout.panel_bytes,
                      .prefetch = {.first = parts.codes, .stream_bytes = 64, .stream_bits = 1, .count = 3},
                      .past_caches = way == Way::past_caches ? 4096 : 0,
                      .scales = &layout.scales,
                      .panel = parts.scales,
                      .x_sums = x_sums.data() + begin / segment * sums_of_segment};
      if (unpacks) {
        tiles.unpack(t, unpacked.data());
        t.w = unpacked.data();
      }
      const TileFunctions& packed = way == Way::packed_blocks_in_parts ? gemm.tile_in_parts : gemm.tile;
      const TileFunction function = (unpacks ? tiles.tile : packed)[rows];
      CountedRows work;
      t.aside = &work;
      (panels > 1 ? gemm.wide_tile[rows].function : function)(t);
      work.check();
    }
    const float* units = row_units(gemm, x.data(), x_k, rows);
    if (units != nullptr) kernels.scale_rows(units, rows, c.data() + panel * tile);
  }
  if (gemm.release != nullptr) gemm.release();
  return c;
}

void check_tiles(const Kernels& kernels, const GemmKernel& gemm, const WeightFormat& format) {
  for (const int64_t k : {int64_t{2}, int64_t{10}, int64_t{256}}) {
    const Operands operands(kernels, gemm, format, k);
    const int64_t unit = std::lcm<int64_t>(gemm.panels(format).step, k_group(gemm.arithmetic));
    const int64_t block = round_up(std::max<int64_t>(1, k / 4), unit);
    const std::vector<float> together = multiply(kernels, gemm, operands, gemm.max_rows, block, Way::at_once);
    const int64_t panel_columns = kernels.panel_columns, columns = Operands::kPanels * panel_columns;
    double worst = 0;
    for (int r = 0; r < gemm.max_rows; ++r) {
      for (int64_t column = 0; column < columns; ++column) {
        double expected = 0, scale = 1;
        for (int64_t i = 0; i < k; ++i) {
          const double product = static_cast<double>(operands.x[r * k + i]) * operands.w.at(column, i);
          expected += product;
          scale += std::fabs(product);
        }
        const int64_t panel = column / panel_columns;
        const float sum = together[(panel * gemm.max_rows + r) * panel_columns + column % panel_columns];
        worst = std::max(worst, std::fabs(expected - sum) / scale);
      }
    }
    // Of quantised weights, codes and offset are summed apart, and what they have in common cancels.
    MOE_CHECK(worst < (format.plain() ? 1e-6 : 4e-6));
    // A row's bits depend neither on the rows and panels beside it nor on whether blocks of k are multiplied one by one
    // or unpacked.
    for (int rows = 1; rows <= gemm.max_rows; ++rows) {
      for (const Way way : {Way::at_once, Way::in_blocks, Way::past_caches, Way::unpacked_blocks, Way::blocks_in_parts,
                            Way::packed_blocks_in_parts, Way::wide_blocks}) {
        const bool unpacks = way == Way::unpacked_blocks || way == Way::blocks_in_parts;
        if (way == Way::past_caches && rows > 4) continue;
        if (unpacks && unpacked_tiles(gemm, way).unpack == nullptr) continue;
        if (way == Way::packed_blocks_in_parts && gemm.tile_in_parts[rows] == nullptr) continue;
        if (way == Way::wide_blocks && gemm.wide_tile[rows].function == nullptr) continue;
        const std::vector<float> few = multiply(kernels, gemm, operands, rows, block, way);
        for (int panel = 0; panel < Operands::kPanels; ++panel) {
          const float* expected = together.data() + panel * gemm.max_rows * panel_columns;
          const float* tile = few.data() + panel * rows * panel_columns;
          MOE_CHECK(std::memcmp(tile, expected, static_cast<size_t>(rows * panel_columns) * sizeof(float)) == 0);
        }
      }
    }
  }
}

// Whether a row can read what is packed: the tests' own format is packed for its own row.
bool takes(const Kernels& kernels, const GemmKernel& gemm, const WeightFormat& format) {
  return gemm.takes(format) && gemm.panels == choose_gemm(kernels.gemm, DType::f32, format)->panels;
}

// Calls expected(gate or value, up).
template <class Function>
void check_activation(const Kernels& kernels, Activation activation, Function expected, const Clamp& clamp = {}) {
  std::vector<float> c, inputs;
  for (int i = 0; i < 4 * kernels.panel_columns; ++i) inputs.push_back(static_cast<float>(i) * 0.31f - 18.0f);
  c = inputs;
  const std::vector<float> bias(static_cast<size_t>(kernels.panel_columns), 0.25f);
  kernels.activate(activation, ActivationPart::whole, clamp, bias.data(), c.data(), 4);
  const int outputs = kernels.panel_columns / (is_gated(activation) ? 2 : 1);
  double worst = 0;
  for (int r = 0; r < 4; ++r) {
    for (int j = 0; j < outputs; ++j) {
      const int at = r * kernels.panel_columns + j;
      const double up = is_gated(activation) ? inputs[at + outputs] + 0.25 : 1.0;
      const double value = expected(inputs[at] + 0.25, up);
      worst = std::max(worst, std::fabs(value - c[at]) / std::max(1.0, std::fabs(value)));
    }
  }
  MOE_CHECK(worst < 2e-6);
}

double silu(double x, double up = 1) { return up * (x / (1 + std::exp(-x))); }
double gelu(double x, double up = 1) { return up * x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }
double gelu_tanh(double x, double up = 1) {
  return up * x / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

// Those that this CPU can run, and AVX-512's whatever suits the CPU.
std::vector<const Kernels*> kernels_with_all_tiles() {
  std::vector<const Kernels*> kernels = available_kernels();
#if defined(MOE_X86)
  const auto has_avx512 = [](const Kernels* one) { return std::string_view(one->name) == avx512::kKernels.name; };
  if (std::ranges::any_of(kernels, has_avx512)) kernels.push_back(&avx512::kKernels);
#endif
  return kernels;
}

}  // namespace

MOE_TEST(tiles_multiply_and_rows_do_not_depend_on_their_tile) {
  for (const Kernels* kernels : kernels_with_all_tiles()) {
    for (const GemmKernel& gemm : kernels->gemm) {
      int formats = 0;
      for (const WeightFormat* format : sample_formats()) {
        if (!takes(*kernels, gemm, *format)) continue;
        check_tiles(*kernels, gemm, *format);
        ++formats;
      }
      MOE_CHECK(formats > 0);
    }
  }
}

MOE_TEST(the_parts_of_gated_activations_multiply_to_the_whole) {
  for (const Kernels* kernels : available_kernels()) {
    const int columns = kernels->panel_columns, half = columns / 2;
    for (const Activation activation :
         {Activation::swiglu, Activation::geglu, Activation::geglu_tanh, Activation::reglu, Activation::swiglu_clamped,
          Activation::swiglu_clamped_after, Activation::situ}) {
      std::vector<float> whole(static_cast<size_t>(columns)), gate = whole, up = whole;
      for (int j = 0; j < half; ++j) {
        gate[j] = whole[j] = static_cast<float>(j) * 1.7f - 9.0f;
        up[j] = whole[half + j] = static_cast<float>(j) * 1.3f - 8.0f;
      }
      const std::vector<float> bias(static_cast<size_t>(columns), 0.25f);
      kernels->activate(activation, ActivationPart::whole, Clamp{}, bias.data(), whole.data(), 1);
      kernels->activate(activation, ActivationPart::gate, Clamp{}, bias.data(), gate.data(), 1);
      kernels->activate(activation, ActivationPart::up, Clamp{}, bias.data(), up.data(), 1);
      for (int j = 0; j < half; ++j) MOE_CHECK_EQUAL(whole[j], gate[j] * up[j]);
    }
  }
}

MOE_TEST(activations_follow_their_formulas) {
  for (const Kernels* kernels : available_kernels()) {
    check_activation(*kernels, Activation::none, [](double x, double) { return x; });
    check_activation(*kernels, Activation::relu, [](double x, double) { return std::max(0.0, x); });
    check_activation(*kernels, Activation::reglu, [](double x, double up) { return std::max(0.0, x) * up; });
    check_activation(*kernels, Activation::relu2, [](double x, double) { return std::pow(std::max(0.0, x), 2); });
    check_activation(*kernels, Activation::swiglu_clamped, [](double x, double up) {
      const double gate = std::min(x, 7.0);
      return gate / (1 + std::exp(-1.702 * gate)) * (std::clamp(up, -7.0, 7.0) + 1);
    });
    const Clamp clamp{.alpha = 1.25f, .limit = 3.0f, .up_limit = 5.0f, .offset = 0.5f};
    const auto after = [](double x, double up) {
      return std::min(x / (1 + std::exp(-1.25 * x)), 3.0) * (std::clamp(up, -5.0, 5.0) + 0.5);
    };
    check_activation(*kernels, Activation::swiglu_clamped_after, after, clamp);
    const auto situ = [](double x, double up) {
      return 3 * std::tanh(x / 3) / (1 + std::exp(-1.25 * x)) * (5 * std::tanh(up / 5) + 0.5);
    };
    check_activation(*kernels, Activation::situ, situ, clamp);
    const Clamp unlimited{.alpha = 1.0f, .limit = INFINITY, .up_limit = INFINITY, .offset = 0.0f};
    for (const Activation clamped : {Activation::swiglu_clamped, Activation::swiglu_clamped_after, Activation::situ}) {
      check_activation(*kernels, clamped, silu, unlimited);
    }
    check_activation(*kernels, Activation::silu, silu);
    check_activation(*kernels, Activation::gelu, gelu);
    check_activation(*kernels, Activation::gelu_tanh, gelu_tanh);
    check_activation(*kernels, Activation::swiglu, silu);
    check_activation(*kernels, Activation::geglu, gelu);
    check_activation(*kernels, Activation::geglu_tanh, gelu_tanh);
  }
}

MOE_TEST(conversions_agree_with_the_scalar_types) {
  test::Random random(5);
  std::vector<float> values = random.values(77);
  for (const float special : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 65519.0f, 1e-7f, 3e38f}) values.push_back(special);
  const int64_t count = static_cast<int64_t>(values.size());
  for (const Kernels* kernels : available_kernels()) {
    std::vector<f16> f16s(values.size());
    std::vector<bf16> bf16s(values.size());
    kernels->from_f32(DType::f16, values.data(), count, f16s.data());
    kernels->from_f32(DType::bf16, values.data(), count, bf16s.data());
    std::vector<float> f16_back(values.size()), bf16_back(values.size());
    kernels->to_f32(DType::f16, f16s.data(), count, f16_back.data());
    kernels->to_f32(DType::bf16, bf16s.data(), count, bf16_back.data());
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) {
        MOE_CHECK(std::isnan(f16_back[i]) && std::isnan(bf16_back[i]));
      } else {
        MOE_CHECK_EQUAL(f16s[i].bits, f16(values[i]).bits);
        MOE_CHECK_EQUAL(bf16s[i].bits, bf16(values[i]).bits);
        MOE_CHECK_EQUAL(f16_back[i], static_cast<float>(f16s[i]));
        MOE_CHECK_EQUAL(bf16_back[i], static_cast<float>(bf16s[i]));
      }
    }
  }
}

MOE_TEST(stored_rows_are_copies_of_the_first_columns) {
  constexpr int kRows = 5, kStride = 70;
  test::Random random(6);
  for (const Kernels* kernels : available_kernels()) {
    const int columns = kernels->panel_columns;
    const std::vector<float> c = random.values(kRows * columns);
    for (int count = 0; count <= columns; ++count) {
      // From aligned places and others.
      for (const int first : {0, 3, 16}) {
        for (const bool streams : {false, true}) {
          alignas(64) float target[kRows * kStride + 16];
          std::fill(std::begin(target), std::end(target), -1.0f);
          kernels->store_rows(c.data(), kRows, count, target + first, kStride, streams);
          kernels->end_streams();
          for (int at = 0; at < kRows * kStride; ++at) {
            const int row = (at - first) / kStride, column = (at - first) % kStride;
            const bool written = at >= first && row < kRows && column < count;
            MOE_CHECK_EQUAL(target[at], written ? c[row * columns + column] : -1.0f);
          }
        }
      }
    }
  }
}

MOE_TEST(rows_of_a_result_are_scaled) {
  constexpr int kRows = 5;
  test::Random random(7);
  for (const Kernels* kernels : available_kernels()) {
    const std::vector<float> scales = random.values(kRows), before = random.values(kRows * kernels->panel_columns);
    std::vector<float> c = before;
    kernels->scale_rows(scales.data(), kRows, c.data());
    for (size_t i = 0; i < c.size(); ++i) MOE_CHECK_EQUAL(c[i], before[i] * scales[i / kernels->panel_columns]);
  }
}

// The sum of the parts that pack_row() makes of the first of `rows` rows.
float sum_of_parts(const std::vector<char>& tile, int parts, int rows, int64_t k) {
  float sum = 0;
  for (int part = parts - 1; part >= 0; --part) {
    bf16 piece;
    std::memcpy(&piece, tile.data() + ((k / 32 * parts + part) * rows * 32 + k % 32) * 2, sizeof piece);
    sum += static_cast<float>(piece);
  }
  return sum;
}

MOE_TEST(parts_for_tile_registers_add_up_to_the_number) {
  constexpr int kRows = 3, kColumns = 70, kPadded = 96;
  test::Random random(7);
  std::vector<float> values = random.values(kColumns - 6);
  for (const float special : {0.0f, 1.0f / 3, -65504.0f, INFINITY, -INFINITY, NAN}) values.push_back(special);
  const uint32_t lowest_nan = 0x7f800001u;
  std::memcpy(&values[5], &lowest_nan, sizeof lowest_nan);
  std::vector<f16> halves(values.begin(), values.end());
  for (const Kernels* kernels : available_kernels()) {
    const auto check = [&](Arithmetic arithmetic, DType dtype, const void* source, auto&& expected) {
      std::vector<char> tile(static_cast<size_t>(kRows * kPadded * element_bytes(arithmetic)), '\x7f');
      kernels->pack_row(arithmetic, dtype, source, kColumns, kPadded, tile.data(), 0, kRows);
      for (int64_t k = 0; k < kPadded; ++k) {
        const float sum = sum_of_parts(tile, parts_of(arithmetic), kRows, k), value = k < kColumns ? expected(k) : 0.0f;
        MOE_CHECK(std::isnan(value) ? std::isnan(sum) : sum == value);
      }
    };
    check(Arithmetic::bf16_tiles_of_three, DType::f32, values.data(), [&](int64_t k) { return values[k]; });
    check(Arithmetic::bf16_tiles_of_two, DType::f16, halves.data(), [&](int64_t k) { return float(halves[k]); });
    check(Arithmetic::bf16_tiles, DType::f32, values.data(), [&](int64_t k) { return float(bf16(values[k])); });
  }
}

MOE_TEST(transposed_tiles_have_columns_as_rows) {
  constexpr int kGroup = k_group(Arithmetic::bf16_tiles), kFirst = 3;
  test::Random random(7);
  const std::vector<float> values = random.values(kGroup * (kFirst + kMaxTileRows));
  const std::vector<bf16> matrix(values.begin(), values.end());
  for (const Kernels* kernels : available_kernels()) {
    for (int count = 1; count <= kMaxTileRows; ++count) {
      // Rows end with the last column.
      std::vector<std::vector<bf16>> rows;
      const void* sources[kGroup];
      for (int k = 0; k < kGroup; ++k) {
        const bf16* row = matrix.data() + k * (kFirst + kMaxTileRows);
        rows.emplace_back(row, row + kFirst + count);
        sources[k] = rows.back().data();
      }
      std::vector<bf16> tile(static_cast<size_t>(count * kGroup), bf16(NAN));
      kernels->pack_tile_transposed(sources, kFirst, count, tile.data());
      for (int r = 0; r < count; ++r) {
        for (int k = 0; k < kGroup; ++k) MOE_CHECK_EQUAL(float(tile[r * kGroup + k]), float(rows[k][kFirst + r]));
      }
    }
  }
}

MOE_TEST(words_are_transposed_bit_by_bit) {
  test::Random random(7);
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t rows : {16, 32}) {
      for (const int64_t columns : {16, 48}) {
        const int64_t stride = columns + 3;
        // Some are signalling NaNs.
        std::vector<uint32_t> words(static_cast<size_t>(rows * stride)), target(static_cast<size_t>(rows * columns));
        for (uint32_t& word : words) {
          word = static_cast<uint32_t>((random.below(2) == 0 ? 0x7f800000 : 0) + random.below(1000));
        }
        kernels->transpose_words(words.data(), stride, rows, columns, target.data());
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t column = 0; column < columns; ++column) {
            MOE_CHECK_EQUAL(target[column * rows + row], words[row * stride + column]);
          }
        }
      }
    }
  }
}

MOE_TEST(softmax_leaves_out_what_is_no_number) {
  test::Random random(7);
  const float inf = INFINITY;
  for (const Kernels* kernels : available_kernels()) {
    for (const int32_t count : {1, 2, 15, 16, 53}) {
      std::vector<float> values = random.values(count);
      if (count > 15) {
        values[3] = NAN;
        values[14] = -inf;
        values[count - 1] = NAN;
      }
      double sum = 0;
      std::vector<double> expected(values.begin(), values.end());
      for (double& value : expected) sum += value = std::isnan(value) ? 0 : std::exp(value);
      kernels->softmax(values.data(), count);
      for (int64_t i = 0; i < count; ++i) MOE_CHECK(std::fabs(values[i] - expected[i] / sum) < 1e-6);
    }
    std::vector<float> infinite = {1, inf, NAN, inf, -inf};
    kernels->softmax(infinite.data(), 5);
    MOE_CHECK(infinite == (std::vector<float>{0, 0.5f, 0, 0.5f, 0}));
    std::vector<float> nothing(19, -inf);
    nothing[7] = nothing[18] = NAN;
    kernels->softmax(nothing.data(), 19);
    MOE_CHECK(nothing == std::vector<float>(19, 0.0f));
  }
}

MOE_TEST(combine_adds_in_order_of_slots) {
  test::Random random(6);
  const int64_t count = 53;
  const std::vector<float> a = random.values(count), b = random.values(count);
  const void* rows[] = {a.data(), nullptr, b.data()};
  const float weights[] = {0.5f, NAN, -2.0f};
  for (const Kernels* kernels : available_kernels()) {
    std::vector<float> y(static_cast<size_t>(count), NAN);
    kernels->combine(DType::f32, rows, weights, 3, count, y.data());
    for (int64_t i = 0; i < count; ++i) MOE_CHECK(std::fabs(y[i] - (0.5 * a[i] - 2.0 * b[i])) < 1e-6);
  }
}
