// How native code reports failure: by value, never by exit() or by an exception across a module boundary.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace moe {

// The same names as MoeErrorCode in lib/core/errors.ts.
enum class Code {
  ok,
  invalid_argument,
  shape_mismatch,
  unsupported_dtype,
  device_mismatch,
  device_unavailable,
  unsupported_operation,
  disposed,
  aborted,
  out_of_memory,
  id_out_of_range,
  bad_checkpoint,
  cuda_error,
  internal,
};

inline const char* code_name(Code code) {
  switch (code) {
    case Code::ok: return "OK";
    case Code::invalid_argument: return "INVALID_ARGUMENT";
    case Code::shape_mismatch: return "SHAPE_MISMATCH";
    case Code::unsupported_dtype: return "UNSUPPORTED_DTYPE";
    case Code::device_mismatch: return "DEVICE_MISMATCH";
    case Code::device_unavailable: return "DEVICE_UNAVAILABLE";
    case Code::unsupported_operation: return "UNSUPPORTED_OPERATION";
    case Code::disposed: return "DISPOSED";
    case Code::aborted: return "ABORTED";
    case Code::out_of_memory: return "OUT_OF_MEMORY";
    case Code::id_out_of_range: return "ID_OUT_OF_RANGE";
    case Code::bad_checkpoint: return "BAD_CHECKPOINT";
    case Code::cuda_error: return "CUDA_ERROR";
    case Code::internal: break;
  }
  return "INTERNAL";
}

struct [[nodiscard]] Status {
  Code code = Code::ok;
  std::string message;  // empty if there was no memory for one; text() is never empty
  uint64_t call = 0;    // the stream's call that failed (see stream.h), of ABORTED the binding's number; 0: unknown

  Status() = default;
  Status(Code c, std::string m) : code(c), message(std::move(m)) {}

  bool ok() const { return code == Code::ok; }
  // Reports invalid data, for which the operator still defines its outputs.
  bool in_data() const { return code == Code::id_out_of_range; }
  // The message, or a default. Does not allocate.
  const char* text() const noexcept;
};

// A copy, without the message if there is no memory for it.
Status copy_of(const Status& status) noexcept;

// With these texts as the message, if there is memory for it.
Status status_of(Code code, const char* before, const char* what) noexcept;

// The exception being handled, as a status. Inline: each library may have a C++ runtime of its own, which knows only
// the exceptions that its own code is handling.
inline Status caught() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return status_of(Code::out_of_memory, "", "");
  } catch (const std::length_error&) {
    // A container larger than any memory.
    return status_of(Code::out_of_memory, "", "");
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) {
      return status_of(Code::internal, "a call of the system failed: ", error.what());
    }
    return status_of(Code::out_of_memory, "the system starts no more threads: ",
                     "raise its limits (ulimit -u or pids of the container, and for their stacks ulimit -v and "
                     "vm.max_map_count), close devices or open them with fewer threads");
  } catch (const std::exception& error) {
    return status_of(Code::internal, "native code failed: ", error.what());
  } catch (...) {
    return status_of(Code::internal, "native code failed: ", "an exception of an unknown type");
  }
}

// What `work` returns, or what it throws as a status.
template <class Work>
Status guarded(Work&& work) noexcept {
  try {
    return work();
  } catch (...) {
    return caught();
  }
}

}  // namespace moe

// Returns from the enclosing function when `expression` is a failed Status.
#define MOE_TRY(expression)                                                           \
  do {                                                                                \
    if (::moe::Status moe_status = (expression); !moe_status.ok()) return moe_status; \
  } while (false)
