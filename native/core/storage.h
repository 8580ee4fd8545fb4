// Memory on a device, shared by the tensors and the enqueued work that use it.
#pragma once

#include <cstddef>
#include <memory>

#include "core/backend.h"

namespace moe {

class Storage {
 public:
  static Status create(std::shared_ptr<Backend> backend, size_t bytes, std::shared_ptr<Storage>* storage) {
    void* data = nullptr;
    if (bytes > 0) MOE_TRY(backend->allocate(bytes, &data));
    storage->reset(new Storage(std::move(backend), data, bytes));
    return {};
  }
  ~Storage() {
    if (data_ != nullptr) backend_->release(data_, bytes_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  char* data() const { return static_cast<char*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  Storage(std::shared_ptr<Backend> backend, void* data, size_t bytes)
      : backend_(std::move(backend)), data_(data), bytes_(bytes) {}

  std::shared_ptr<Backend> backend_;
  void* data_;
  size_t bytes_;
};

}  // namespace moe
