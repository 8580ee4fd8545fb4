// A file whose bytes a device computes with in place.
#pragma once

#include <cstddef>
#include <string>

#include "core/status.h"

namespace moe {

class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual char* data() const = 0;
  // Fails if the file has become shorter than what is mapped. Sets `written` if the file may have been written to since
  // the last call.
  virtual Status check(bool* written) = 0;
  // Fails if bytes that were read since the file was mapped were not there any more, so that they count as zeros.
  virtual Status check_read() const = 0;
  // Asks for bytes that will be read soon, without waiting for them.
  virtual void ask(const void* data, size_t bytes) const = 0;
  // Gives the memory of bytes back. They can still be read, and are then read from the file again.
  virtual void drop(const void* data, size_t bytes) const = 0;
  // The error for damaged bytes. Removes the file, unless another has taken its name, so that the next load replaces
  // it.
  virtual Status damaged(const std::string& what) const = 0;
};

}  // namespace moe
