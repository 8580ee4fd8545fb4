// A file's bytes as memory, without reading them: a page comes from the system's file cache when it is first touched.
#pragma once

#include <cstddef>
#include <memory>

#include "core/status.h"

namespace moe::cpu {

// Windows is left out: its mappings keep the file from being replaced or deleted while a layer is in use.
#if defined(_WIN32)
constexpr bool kMapsFiles = false;
#else
constexpr bool kMapsFiles = true;
#endif

class Mapping {
 public:
  // Maps the first `bytes` of an open file, read-only. Right afterwards the descriptor may be closed and the file
  // deleted or replaced by another. It must not be truncated in place: touching a page past its end is fatal.
  static Status open(int descriptor, size_t bytes, std::shared_ptr<Mapping>* mapping);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void* data() const { return data_; }

 private:
  Mapping(void* data, size_t bytes) : data_(data), bytes_(bytes) {}

  void* data_;
  size_t bytes_;
};

}  // namespace moe::cpu
