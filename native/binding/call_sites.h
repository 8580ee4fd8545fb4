// Where in JavaScript enqueued work comes from, for the errors that surface at a later wait.
#pragma once

#include <cstdint>
#include <deque>

#include "binding/napi_setup.h"

namespace moe::binding {

class CallSites {
 public:
  // Remembers the present stack for a stream's call; the oldest is forgotten where there are many.
  void remember(Napi::Env env, uint64_t call, const char* name);
  // An Error whose stack is that of the call, or undefined.
  Napi::Value find(Napi::Env env, uint64_t call) const;

 private:
  static constexpr size_t kMost = 1024;

  struct Site {
    uint64_t call;
    Napi::Reference<Napi::Object> error;
  };
  std::deque<Site> sites_;  // in order of the calls
};

}  // namespace moe::binding
