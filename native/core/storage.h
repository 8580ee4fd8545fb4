// Device memory shared by the tensors and enqueued work that use it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

#include "core/backend.h"
#include "core/content.h"
#include "core/mapped_file.h"

namespace moe {

// Its parts are in bytes.
class Storage final : public Content {
 public:
  static Status create(std::shared_ptr<Backend> backend, size_t bytes, std::shared_ptr<Storage>* storage) {
    void* data = nullptr;
    // Even empty memory needs an address: memcpy must not get a null pointer.
    const size_t allocated = std::max<size_t>(bytes, 1);
    MOE_TRY(backend->allocate(allocated, &data));
    const auto release = [backend = std::move(backend), allocated](void* memory) {
      backend->release(memory, allocated);
    };
    *storage = std::make_shared<Storage>(std::shared_ptr<void>(data, release), bytes);
    return {};
  }
  // Wraps memory that is released with the last copy of `data`.
  Storage(std::shared_ptr<void> data, size_t bytes) : data_(std::move(data)), bytes_(bytes) {}
  // The first bytes of a file.
  Storage(std::shared_ptr<MappedFile> file, size_t bytes)
      : data_(file, file->data()), bytes_(bytes), file_(file.get()) {}
  // Memory of somebody else's, who is told when the last copy of `data` is gone.
  static std::shared_ptr<Storage> foreign(std::shared_ptr<void> data, size_t bytes) {
    auto storage = std::make_shared<Storage>(std::move(data), bytes);
    storage->foreign_ = true;
    return storage;
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  char* data() const { return static_cast<char*>(data_.get()); }
  size_t bytes() const { return bytes_; }
  bool is_foreign() const { return foreign_; }
  // Null for memory that is not a file's.
  MappedFile* file() const { return file_; }

 private:
  std::shared_ptr<void> data_;
  size_t bytes_;
  MappedFile* file_ = nullptr;
  bool foreign_ = false;
};

}  // namespace moe
