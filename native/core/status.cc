#include "core/status.h"

namespace moe {

Status status_of(Code code, const char* before, const char* what) noexcept {
  Status status;
  status.code = code;
  try {
    status.message = std::string(before) + what;
  } catch (...) {
    // text() has a default.
  }
  return status;
}

const char* Status::text() const noexcept {
  if (!message.empty()) return message.c_str();
  if (code == Code::out_of_memory) {
    return "the process ran out of host memory; dispose of tensors and layers that are no longer needed, or use fewer "
           "tokens";
  }
  return "the work failed, and there was no memory for a message that says why";
}

Status copy_of(const Status& status) noexcept {
  Status copy;
  copy.code = status.code;
  copy.call = status.call;
  try {
    copy.message = status.message;
  } catch (...) {
  }
  return copy;
}

}  // namespace moe
