// Device memory shared by the tensors and enqueued work that use it.
#pragma once

#include <cstddef>
#include <memory>

#include "core/backend.h"
#include "core/mapped_file.h"

namespace moe {

class Storage {
 public:
  static Status create(std::shared_ptr<Backend> backend, size_t bytes, std::shared_ptr<Storage>* storage) {
    void* data = nullptr;
    if (bytes > 0) MOE_TRY(backend->allocate(bytes, &data));
    const auto release = [backend = std::move(backend), bytes](void* memory) {
      if (memory != nullptr) backend->release(memory, bytes);
    };
    *storage = std::make_shared<Storage>(std::shared_ptr<void>(data, release), bytes);
    return {};
  }
  // Wraps memory that is released with the last copy of `data`.
  Storage(std::shared_ptr<void> data, size_t bytes) : data_(std::move(data)), bytes_(bytes) {}
  // The first bytes of a file.
  Storage(std::shared_ptr<MappedFile> file, size_t bytes)
      : data_(file, file->data()), bytes_(bytes), file_(file.get()) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  char* data() const { return static_cast<char*>(data_.get()); }
  size_t bytes() const { return bytes_; }
  // Null for memory that is not a file's.
  MappedFile* file() const { return file_; }

 private:
  std::shared_ptr<void> data_;
  size_t bytes_;
  MappedFile* file_ = nullptr;
};

}  // namespace moe
