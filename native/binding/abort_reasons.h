// What signals were aborted with, for the errors of the work that they cancelled.
#pragma once

#include <cstdint>
#include <deque>

#include "binding/napi_setup.h"
#include "core/status.h"

namespace moe::binding {

class AbortReasons {
 public:
  // The number of a reason that is not kept, as there was no memory.
  static constexpr uint64_t kUnknown = 1;

  // Keeps a reason and returns its number. Only the newest reasons are kept.
  uint64_t keep(Napi::Env env, Napi::Value reason);
  // The status of work that a signal with this reason cancelled: ABORTED, whose `call` is above those of any stream.
  static Status aborted(const char* name, uint64_t number);
  // The `{ cause }` of the error for a status; undefined if no reason is known.
  Napi::Value options_for(Napi::Env env, const Status& status) const;

 private:
  static constexpr size_t kMost = 1024;
  static constexpr uint64_t kFirst = uint64_t{1} << 63;

  uint64_t newest_ = kUnknown;
  // Options of errors, as a reason may be no object, which a reference needs. Oldest first.
  std::deque<Napi::Reference<Napi::Object>> kept_;
};

}  // namespace moe::binding
