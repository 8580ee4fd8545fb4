#pragma once

#include <strings.h>

#include "../common/config.h"
#include "../common/safetensors.h"
#include "room.h"

/** The matrices of all experts. */
struct Matrices {
  Room room;
  GgmlTensor* tensor;
};

struct Weights {
  Matrices gate, up, down;
};

/** A graph and the tensor of its outputs. */
struct Forward {
  GgmlGraph* graph;
  GgmlTensor* y;
};

/** Copies of a layer, and the graph in which llama.cpp computes one. */
class Layer {
 public:
  Layer(const Cpu& cpu, const Config& config, const SafetensorsFile& file, std::size_t copies)
      : cpu_(cpu), ggml_(cpu.ggml), config_(config), type_(type_of(file)) {
    for (std::size_t copy = 0; copy < copies; ++copy) {
      copies_.push_back({load(file, "gate", config.hidden, config.intermediate),
                         load(file, "up", config.hidden, config.intermediate),
                         load(file, "down", config.intermediate, config.hidden)});
    }
  }

  std::size_t copies() const { return copies_.size(); }

  /** Descriptions that graphs need room for, each. */
  std::size_t tensors() const { return 16 + 2 * config_.top_k; }
  /** Nodes of a graph. Its tables are hashed, and so larger. */
  std::size_t nodes() const { return 4 * tensors(); }

  /** Describes y [tokens, hidden] of x [tokens, hidden] and logits [tokens, experts]. */
  Forward describe(const Room& room, std::size_t copy, std::size_t tokens, GgmlTensor* x, GgmlTensor* logits) const {
    const auto& [gate, up, down] = copies_[copy];
    const std::size_t k = config_.top_k;
    GgmlTensor* probabilities = ggml_.soft_max(room, logits);
    GgmlTensor* ids = ggml_.top_k(room, probabilities, static_cast<int>(k));
    GgmlTensor* weights = ggml_.get_rows(room, ggml_.reshape_3d(room, probabilities, 1, config_.experts, tokens), ids);
    if (config_.normalize) {
      weights = ggml_.reshape_2d(room, weights, k, tokens);
      weights = ggml_.divide(room, weights, ggml_.sum_rows(room, weights));
      weights = ggml_.reshape_3d(room, weights, 1, k, tokens);
    }
    GgmlTensor* rows = ggml_.reshape_3d(room, x, config_.hidden, 1, tokens);
    GgmlTensor* gates = ggml_.multiply_chosen(room, gate.tensor, rows, ids);
    GgmlTensor* inner = ggml_.swiglu(room, gates, ggml_.multiply_chosen(room, up.tensor, rows, ids));
    GgmlTensor* outer = ggml_.multiply(room, ggml_.multiply_chosen(room, down.tensor, inner, ids), weights);
    GgmlGraph* graph = ggml_.new_graph(room, nodes(), false);
    GgmlTensor* y = nullptr;
    for (std::size_t slot = 0; slot < k; ++slot) {
      const std::size_t bytes = config_.hidden * sizeof(float);
      GgmlTensor* part = ggml_.view_2d(room, outer, config_.hidden, tokens, k * bytes, slot * bytes);
      y = y == nullptr ? part : ggml_.add(room, y, part);
    }
    ggml_.expand(graph, y);
    return {graph, y};
  }

 private:
  /** The type of the file's matrices: that of their blocks, which the metadata tell, or of their elements. */
  static const GgmlType& type_of(const SafetensorsFile& file) {
    const std::string blocks = file.metadata("blocks");
    const std::string name = blocks.empty() ? file.dtype("gate") : blocks;
    for (const GgmlType& type : ggml_types::all) {
      if (strcasecmp(type.name, name.c_str()) == 0) return type;
    }
    throw std::runtime_error("expected matrices of a type that this program knows, got " + name);
  }

  /** Matrices [experts, outputs, inputs] in the first type of buffer in which products with them can be computed. */
  Matrices load(const SafetensorsFile& file, const std::string& name, std::size_t inputs, std::size_t outputs) const {
    for (GgmlBufferType* memory : cpu_.buffer_types()) {
      Room room(ggml_, 1);
      GgmlTensor* tensor = ggml_.new_3d(room, type_.number, inputs, outputs, config_.experts);
      if (!room.allocate(memory) || !multiplies(tensor, inputs)) continue;
      const std::size_t bytes = ggml_.bytes_of(tensor);
      if (file.bytes(name) != bytes) {
        throw std::runtime_error(name + ": expected " + std::to_string(bytes) + " bytes, got " +
                                 std::to_string(file.bytes(name)));
      }
      ggml_.write(tensor, file.read<char>(name, file.dtype(name)), 0, bytes);
      return {std::move(room), tensor};
    }
    throw std::runtime_error(name + ": ggml has no memory, or no products with " + type_.name);
  }

  bool multiplies(GgmlTensor* matrices, std::size_t inputs) const {
    const Room room(ggml_, 3);
    GgmlTensor* rows = ggml_.new_3d(room, ggml_types::f32.number, inputs, 1, 1);
    GgmlTensor* ids = ggml_.new_2d(room, ggml_types::i32.number, config_.top_k, 1);
    return cpu_.supports(ggml_.multiply_chosen(room, matrices, rows, ids));
  }

  const Cpu& cpu_;
  const Ggml& ggml_;
  const Config config_;
  const GgmlType type_;
  std::vector<Weights> copies_;
};
