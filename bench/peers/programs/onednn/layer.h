#pragma once

#include <type_traits>

#include "../common/safetensors.h"
#include "product.h"
#include "routing.h"
#include "vectors.h"

/** Padding of a row in elements' bytes: rows a power of two apart would compete for the same lines of the cache. */
constexpr std::size_t row_padding = 64;
/** Bytes of rows that slices of weights pass by, one after another: about the second cache of a core with AMX. */
constexpr std::size_t chunk_bytes = std::size_t{2} << 20;

/** One layer's packed weights. Scales are those of int8, one for each output. */
template <class Element>
struct Weights {
  /** [experts, intermediate slices, gate and up] */
  Buffer<Element> gate_up;
  /** [experts, hidden slices] */
  Buffer<Element> down;
  std::vector<float> gate_scales, up_scales, down_scales;
};

/** Rows of one expert. */
struct Chunk {
  std::size_t expert, begin, end;
};

/**
 * A layer as a loop over experts and 64-column slices. Element bfloat16: sums in float32, inner activations rounded to
 * bfloat16. int8: weights have a scale for each output, rows of tokens and of inner activations are rounded to int8.
 */
template <class Element>
class Layer {
  static constexpr bool is_int8 = std::is_same_v<Element, std::int8_t>;
  using Sum = typename Product<Element>::Sum;

 public:
  /** Tokens as they come and results as they are wanted. */
  using Token = std::conditional_t<is_int8, float, BFloat16>;

  Layer(const Config& config, const SafetensorsFile& file, std::size_t copies, Team& team)
      : config_(config),
        team_(team),
        hidden_(whole_slices(config.hidden)),
        intermediate_(whole_slices(config.intermediate)),
        gate_up_(hidden_, hidden_ + row_padding / sizeof(Element)),
        down_(intermediate_, intermediate_ + row_padding / sizeof(Element)) {
    for (std::size_t copy = 0; copy < copies; ++copy) copies_.push_back(load(file));
    const std::size_t bytes = std::max(gate_up_.scratch_bytes(), down_.scratch_bytes()) + 64;
    for (int thread = 0; thread < team.threads(); ++thread) scratch_.emplace_back(bytes + 2 * block * sizeof(Sum));
  }

  std::size_t copies() const { return copies_.size(); }

  /** Makes buffers for calls of this many tokens. */
  void reserve(std::size_t tokens) {
    const std::size_t rows = tokens * config_.top_k;
    if (rows <= rows_) return;
    rows_ = rows;
    x_ = Buffer<Element>(rows * (hidden_ + row_padding));
    inner_ = Buffer<Element>(rows * (intermediate_ + row_padding));
    y_ = Buffer<BFloat16>(rows * hidden_);
    if (!is_int8) return;
    x_codes_ = Buffer<Element>(tokens * hidden_);
    x_scales_ = Buffer<float>(tokens);
    inner_floats_ = Buffer<BFloat16>(rows * intermediate_);
    inner_scales_ = Buffer<float>(rows);
  }

  /** y [tokens, hidden] of x and logits [tokens, experts]; called by all threads. */
  void forward(int thread, std::size_t copy, std::size_t tokens, const Token* x, const float* logits, Routing& routing,
               Token* y) {
    const Weights<Element>& weights = copies_[copy];
    if constexpr (is_int8) quantize_tokens(thread, tokens, x);
    routing.route(team_, thread, logits);
    if (thread == 0) plan(routing);
    gather(thread, x, routing);
    team_.barrier();
    gate_up(thread, weights, routing);
    team_.barrier();
    if constexpr (is_int8) {
      quantize_inner(thread, routing);
      team_.barrier();
    }
    down(thread, weights);
    team_.barrier();
    combine(thread, tokens, routing, y);
    dnnl::ukernel::brgemm::release_hw_context();
    team_.barrier();
  }

 private:
  static constexpr std::size_t block = block_rows * slice_columns;

  Weights<Element> load(const SafetensorsFile& file) const {
    const std::string dtype = is_int8 ? "U8" : "BF16";
    const int sign_bits = is_int8 ? 0x80 : 0;
    const std::size_t size = config_.intermediate * config_.hidden;
    const Element* gate = file.read<Element>("gate", dtype);
    const Element* up = file.read<Element>("up", dtype);
    const Element* down = file.read<Element>("down", dtype);
    Packer<Element> inner(config_.intermediate, config_.hidden), outer(config_.hidden, config_.intermediate);
    Weights<Element> result;
    result.gate_up = Buffer<Element>(config_.experts * inner.slices() * 2 * inner.slice_size());
    result.down = Buffer<Element>(config_.experts * outer.slices() * outer.slice_size());
    for (std::size_t expert = 0; expert < config_.experts; ++expert) {
      for (std::size_t slice = 0; slice < inner.slices(); ++slice) {
        Element* to = result.gate_up + (expert * inner.slices() + slice) * 2 * inner.slice_size();
        inner.pack(gate + expert * size, slice, to, sign_bits);
        inner.pack(up + expert * size, slice, to + inner.slice_size(), sign_bits);
      }
      for (std::size_t slice = 0; slice < outer.slices(); ++slice) {
        Element* to = result.down + (expert * outer.slices() + slice) * outer.slice_size();
        outer.pack(down + expert * size, slice, to, sign_bits);
      }
    }
    if (!is_int8) return result;
    result.gate_scales = scales(file, "gate.scales", config_.intermediate);
    result.up_scales = scales(file, "up.scales", config_.intermediate);
    result.down_scales = scales(file, "down.scales", config_.hidden);
    return result;
  }

  /** [experts, outputs] padded to whole slices. */
  std::vector<float> scales(const SafetensorsFile& file, const std::string& name, std::size_t outputs) const {
    const float* stored = file.read<float>(name, "F32");
    std::vector<float> result(config_.experts * whole_slices(outputs));
    for (std::size_t expert = 0; expert < config_.experts; ++expert) {
      std::copy_n(stored + expert * outputs, outputs, &result[expert * whole_slices(outputs)]);
    }
    return result;
  }

  /** Splits the experts' rows into chunks for both products. */
  void plan(const Routing& routing) {
    const auto split = [&](std::vector<Chunk>& chunks, std::size_t inputs) {
      const std::size_t blocks = chunk_bytes / (inputs * sizeof(Element) * block_rows);
      const std::size_t most = std::max<std::size_t>(blocks, 2) * block_rows;
      chunks.clear();
      for (std::size_t expert = 0; expert < config_.experts; ++expert) {
        const std::size_t end = routing.offsets[expert + 1];
        for (std::size_t begin = routing.offsets[expert]; begin < end; begin += most) {
          chunks.push_back({expert, begin, std::min(end, begin + most)});
        }
      }
    };
    split(gate_up_chunks_, hidden_);
    split(down_chunks_, intermediate_);
    next_gate_up_ = 0;
    next_down_ = 0;
  }

  std::size_t x_stride() const { return hidden_ + row_padding / sizeof(Element); }
  std::size_t inner_stride() const { return intermediate_ + row_padding / sizeof(Element); }

  void quantize_tokens(int thread, std::size_t tokens, const float* x) {
    team_.share(thread, tokens, [&](std::size_t token) {
      const float* row = x + token * config_.hidden;
      x_scales_.data()[token] = quantize_row(x_codes_ + token * hidden_, hidden_, [&](std::size_t column) {
        const std::size_t left = column < config_.hidden ? config_.hidden - column : 0;
        return _mm512_maskz_loadu_ps(left >= 16 ? 0xffff : (1U << left) - 1, row + column);
      });
    });
  }

  void gather(int thread, const Token* x, const Routing& routing) {
    team_.share(thread, routing.token_of.size(), [&](std::size_t row) {
      const std::size_t token = routing.token_of[row];
      Element* to = x_ + row * x_stride();
      if constexpr (is_int8) {
        std::memcpy(to, x_codes_ + token * hidden_, hidden_);
      } else {
        std::memcpy(to, x + token * config_.hidden, config_.hidden * sizeof(Element));
      }
    });
  }

  /** Takes tasks (chunk, slice) and calls use(chunk, slice, first row, rows, packed slice) for blocks of its rows. */
  template <class Use>
  static void take_tasks(std::atomic<std::size_t>& next, const std::vector<Chunk>& chunks, std::size_t slices,
                         const Element* packed, std::size_t slice_size, Use use) {
    for (std::size_t task = next++; task < chunks.size() * slices; task = next++) {
      const Chunk& chunk = chunks[task / slices];
      const std::size_t slice = task % slices;
      const Element* weights = packed + (chunk.expert * slices + slice) * slice_size;
      for (std::size_t row = chunk.begin; row < chunk.end; row += block_rows) {
        use(chunk, slice, row, std::min(block_rows, chunk.end - row), weights);
      }
    }
  }

  void gate_up(int thread, const Weights<Element>& weights, const Routing& routing) {
    Sum* gates = reinterpret_cast<Sum*>(scratch_[thread].data());
    Sum* ups = gates + block;
    void* scratch = ups + block;
    const std::size_t size = slice_columns * hidden_;
    const auto use = [&](const Chunk& chunk, std::size_t slice, std::size_t first, std::size_t rows,
                         const Element* packed) {
      const Element* x = x_ + first * x_stride();
      gate_up_.run(rows, x, packed, gates, scratch);
      gate_up_.run(rows, x, packed + size, ups, scratch);
      const std::size_t column = slice * slice_columns;
      for (std::size_t row = 0; row < rows; ++row) {
        const Sum* gate = gates + row * slice_columns;
        const Sum* up = ups + row * slice_columns;
        if constexpr (is_int8) {
          const __m512 scale = _mm512_set1_ps(x_scales_.data()[routing.token_of[first + row]]);
          const float* gate_scales = &weights.gate_scales[chunk.expert * intermediate_ + column];
          const float* up_scales = &weights.up_scales[chunk.expert * intermediate_ + column];
          BFloat16* to = inner_floats_ + (first + row) * intermediate_ + column;
          for (std::size_t at = 0; at < slice_columns; at += 16) {
            store_bf16(to + at,
                       swiglu(scaled(gate + at, gate_scales + at, scale), scaled(up + at, up_scales + at, scale)));
          }
        } else {
          Element* to = inner_ + (first + row) * inner_stride() + column;
          for (std::size_t at = 0; at < slice_columns; at += 16) {
            store_bf16(to + at, swiglu(_mm512_loadu_ps(gate + at), _mm512_loadu_ps(up + at)));
          }
        }
      }
    };
    take_tasks(next_gate_up_, gate_up_chunks_, intermediate_ / slice_columns, weights.gate_up.data(), 2 * size, use);
  }

  static __m512 scaled(const std::int32_t* sums, const float* scales, __m512 scale) {
    const __m512 values = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums));
    return _mm512_mul_ps(values, _mm512_mul_ps(_mm512_loadu_ps(scales), scale));
  }

  void quantize_inner(int thread, const Routing& routing) {
    team_.share(thread, routing.token_of.size(), [&](std::size_t row) {
      const BFloat16* from = inner_floats_ + row * intermediate_;
      inner_scales_.data()[row] =
          quantize_row(reinterpret_cast<std::int8_t*>(inner_ + row * inner_stride()), intermediate_,
                       [&](std::size_t column) { return load_bf16(from + column); });
    });
  }

  void down(int thread, const Weights<Element>& weights) {
    Sum* sums = reinterpret_cast<Sum*>(scratch_[thread].data());
    void* scratch = sums + 2 * block;
    const auto use = [&](const Chunk& chunk, std::size_t slice, std::size_t first, std::size_t rows,
                         const Element* packed) {
      down_.run(rows, inner_ + first * inner_stride(), packed, sums, scratch);
      const std::size_t column = slice * slice_columns;
      for (std::size_t row = 0; row < rows; ++row) {
        const Sum* from = sums + row * slice_columns;
        BFloat16* to = y_ + (first + row) * hidden_ + column;
        for (std::size_t at = 0; at < slice_columns; at += 16) {
          if constexpr (is_int8) {
            const __m512 scale = _mm512_set1_ps(inner_scales_.data()[first + row]);
            store_bf16(to + at, scaled(from + at, &weights.down_scales[chunk.expert * hidden_ + column + at], scale));
          } else {
            store_bf16(to + at, _mm512_loadu_ps(from + at));
          }
        }
      }
    };
    take_tasks(next_down_, down_chunks_, hidden_ / slice_columns, weights.down.data(), slice_columns * intermediate_,
               use);
  }

  void combine(int thread, std::size_t tokens, const Routing& routing, Token* y) {
    team_.share(thread, tokens, [&](std::size_t token) {
      Token* to = y + token * config_.hidden;
      for (std::size_t column = 0; column < config_.hidden; column += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t slot = token * config_.top_k; slot < (token + 1) * config_.top_k; ++slot) {
          const __m512 row = load_bf16(y_ + routing.row_of[slot] * hidden_ + column);
          sum = _mm512_fmadd_ps(_mm512_set1_ps(routing.weights[slot]), row, sum);
        }
        const std::size_t left = config_.hidden - column;
        const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1U << left) - 1);
        if constexpr (is_int8) {
          _mm512_mask_storeu_ps(to + column, mask, sum);
        } else {
          _mm256_mask_storeu_epi16(to + column, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sum)));
        }
      }
    });
  }

  const Config config_;
  Team& team_;
  /** Sizes in whole slices. */
  const std::size_t hidden_, intermediate_;
  const Product<Element> gate_up_, down_;
  std::vector<Weights<Element>> copies_;
  std::vector<Buffer<char>> scratch_;

  std::size_t rows_ = 0;
  /** Rows of tokens and inner activations, by expert; columns past the layer's own stay zero. */
  Buffer<Element> x_, inner_;
  Buffer<BFloat16> y_;
  Buffer<Element> x_codes_;
  Buffer<BFloat16> inner_floats_;
  Buffer<float> x_scales_, inner_scales_;

  std::vector<Chunk> gate_up_chunks_, down_chunks_;
  alignas(64) std::atomic<std::size_t> next_gate_up_{0};
  alignas(64) std::atomic<std::size_t> next_down_{0};
};
