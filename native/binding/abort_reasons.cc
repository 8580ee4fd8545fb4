#include "binding/abort_reasons.h"

#include <string>

namespace moe::binding {

uint64_t AbortReasons::keep(Napi::Env env, Napi::Value reason) {
  Napi::Object options = Napi::Object::New(env);
  options.Set("cause", reason);
  if (kept_.size() == kMost) kept_.pop_front();
  kept_.push_back(Napi::Persistent(options));
  return ++newest_;
}

Status AbortReasons::aborted(const char* name, uint64_t number) {
  Status status{Code::aborted, std::string(name) + ": aborted by its signal before this work began"};
  status.call = kFirst + number;
  return status;
}

Napi::Value AbortReasons::options_for(Napi::Env env, const Status& status) const {
  const uint64_t oldest = newest_ - kept_.size() + 1;
  if (status.code != Code::aborted || status.call < kFirst + oldest) return env.Undefined();
  return kept_[status.call - kFirst - oldest].Value();
}

}  // namespace moe::binding
