// Where in JavaScript enqueued work comes from, for the errors that surface at a later wait.
#pragma once

#include <cstdint>
#include <deque>

#include "binding/napi_setup.h"

namespace moe::binding {

class CallSites {
 public:
  // Keeps the current stack for a stream's call, which comes next. Only the newest stacks are kept.
  void remember(Napi::Env env, const char* name);
  // The number of the call that came.
  void number(uint64_t call) { sites_.back().call = call; }
  // An Error with the call's stack, or undefined if that is no longer kept.
  Napi::Value find(Napi::Env env, uint64_t call) const;

 private:
  static constexpr size_t kMost = 1024;
  static constexpr uint64_t kUnnumbered = UINT64_MAX;

  struct Site {
    uint64_t call;
    Napi::Reference<Napi::Object> error;
  };
  std::deque<Site> sites_;  // oldest call first
};

}  // namespace moe::binding
