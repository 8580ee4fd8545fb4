// A file whose bytes a device computes with in place.
#pragma once

#include <string>

#include "core/status.h"

namespace moe {

class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual char* data() const = 0;
  // Fails if the file has become shorter than what is mapped: touching the missing bytes would end the process. Sets
  // `written` if the file may have been written to since the last call.
  virtual Status check(bool* written) = 0;
  // The error for damaged bytes. Removes the file, unless another has taken its name, so that the next load replaces
  // it.
  virtual Status damaged(const std::string& what) const = 0;
};

}  // namespace moe
