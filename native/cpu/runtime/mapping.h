// A file's bytes as memory, without reading them: pages come from the system's file cache when they are first touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/mapped_file.h"
#include "cpu/runtime/mapping_guard.h"

namespace moe::cpu {

class Mapping final : public MappedFile {
 public:
  // Maps the first `bytes` of an open file, read-only. The caller may close the descriptor, and the file may be deleted
  // or replaced by another. `path` is where it was opened.
  static Status open(int descriptor, std::string path, size_t bytes, std::shared_ptr<MappedFile>* mapping);
  ~Mapping() override;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* data() const override { return static_cast<char*>(data_); }
  Status check(bool* written) override;
  Status check_read() const override;
  void ask(const void* data, size_t bytes) const override;
  void drop(const void* data, size_t bytes) const override;
  Status damaged(const std::string& what) const override;

 private:
  Mapping(std::string path, size_t bytes) : path_(std::move(path)), bytes_(bytes) {}

  std::string path_;
  size_t bytes_;
  int descriptor_ = -1;
  void* data_ = nullptr;
  std::optional<MappingGuard> guard_;
  int64_t modified_ = 0;  // when the file was last written to, in nanoseconds
};

}  // namespace moe::cpu
