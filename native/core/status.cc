#include "core/status.h"

#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

namespace moe {

namespace {

Status with_message(Code code, const char* before, const char* what) noexcept {
  Status status;
  status.code = code;
  try {
    status.message = std::string(before) + what;
  } catch (...) {
    // text() has a default.
  }
  return status;
}

}  // namespace

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

Status caught() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return with_message(Code::out_of_memory, "", "");
  } catch (const std::length_error&) {
    // A container larger than any memory.
    return with_message(Code::out_of_memory, "", "");
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) {
      return with_message(Code::internal, "a call of the system failed: ", error.what());
    }
    return with_message(Code::out_of_memory, "the system starts no more threads: ",
                        "raise its limits (ulimit -u or pids of the container, and for their stacks ulimit -v and "
                        "vm.max_map_count), close devices or open them with fewer threads");
  } catch (const std::exception& error) {
    return with_message(Code::internal, "native code failed: ", error.what());
  } catch (...) {
    return with_message(Code::internal, "native code failed: ", "an exception of an unknown type");
  }
}

}  // namespace moe
