// Weights in a file, checked against their checksums before they are first used.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/mapped_file.h"
#include "cpu/runtime/checksum.h"

namespace moe::cpu {

class CheckedPart {
 public:
  // `count` units of unit_bytes each at `data`, such as experts, and their checksums.
  CheckedPart(MappedFile& file, std::string name, const char* data, size_t unit_bytes, int64_t count,
              const uint64_t* checksums)
      : file_(file),
        name_(std::move(name)),
        data_(data),
        unit_bytes_(unit_bytes),
        checksums_(checksums),
        checked_(static_cast<size_t>(count), false) {}

  // Checks those of `units` that have not been checked yet.
  Status check(const Team& team, std::vector<int32_t> units);
  // Makes every unit be checked again.
  void reset() { checked_.assign(checked_.size(), false); }

 private:
  MappedFile& file_;
  std::string name_;
  const char* data_;
  size_t unit_bytes_;
  const uint64_t* checksums_;
  std::vector<bool> checked_;
};

}  // namespace moe::cpu
