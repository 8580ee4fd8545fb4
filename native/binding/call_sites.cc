#include "binding/call_sites.h"

#include <algorithm>
#include <string>

namespace moe::binding {

void CallSites::remember(Napi::Env env, const char* name) {
  // V8 captures the stack when the error is made, and formats it only if somebody reads it.
  Napi::Object error = Napi::Error::New(env, std::string(name) + " was called here").Value();
  if (!sites_.empty() && sites_.back().call == kUnnumbered) sites_.pop_back();  // its call was refused
  if (sites_.size() == kMost) sites_.pop_front();
  sites_.push_back({kUnnumbered, Napi::Persistent(error)});
}

Napi::Value CallSites::find(Napi::Env env, uint64_t call) const {
  const auto site = std::lower_bound(sites_.begin(), sites_.end(), call,
                                     [](const Site& site, uint64_t number) { return site.call < number; });
  if (site == sites_.end() || site->call != call) return env.Undefined();
  return site->error.Value();
}

}  // namespace moe::binding
