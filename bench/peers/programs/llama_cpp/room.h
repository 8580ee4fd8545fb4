#pragma once

#include <utility>

#include "cpu.h"

/** Room for descriptions of tensors and graphs, and memory for the data of the tensors. */
class Room {
 public:
  Room(const Ggml& ggml, std::size_t tensors, std::size_t graphs = 0, std::size_t nodes = 0)
      : ggml_(&ggml),
        context_(
            ggml.init({tensors * ggml.tensor_overhead() + graphs * ggml.graph_overhead(nodes, false), nullptr, true})) {
    if (context_ == nullptr) throw std::bad_alloc();
  }
  Room(Room&& other) noexcept
      : ggml_(other.ggml_),
        context_(std::exchange(other.context_, nullptr)),
        buffer_(std::exchange(other.buffer_, nullptr)) {}
  Room& operator=(Room&&) = delete;
  ~Room() {
    if (buffer_ != nullptr) ggml_->free_buffer(buffer_);
    if (context_ != nullptr) ggml_->free(context_);
  }

  operator GgmlContext*() const { return context_; }

  /** Gives all tensors memory; false if there is none of this type. */
  bool allocate(GgmlBufferType* type) {
    buffer_ = ggml_->allocate_tensors(context_, type);
    return buffer_ != nullptr;
  }

 private:
  const Ggml* ggml_;
  GgmlContext* context_;
  GgmlBuffer* buffer_ = nullptr;
};
