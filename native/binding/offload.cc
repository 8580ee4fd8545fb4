#include "binding/offload.h"

#include <algorithm>
#include <string>

#include "binding/arguments.h"

namespace moe::binding {

std::vector<int32_t> expert_list(Napi::Env env, Napi::Value value, int64_t experts, const char* name) {
  std::vector<int32_t> result;
  if (!value.IsArray()) throw_error(env, {Code::invalid_argument, std::string(name) + ": expected a list of experts"});
  const Napi::Array given = value.As<Napi::Array>();
  for (uint32_t i = 0; i < given.Length(); ++i) {
    const int64_t expert = integer(env, given.Get(i), name);
    if (expert < 0 || expert >= experts) {
      throw_error(env, {Code::invalid_argument, std::string(name) + ": expected experts from 0 to " +
                                                    std::to_string(experts - 1) + ", got " + std::to_string(expert)});
    }
    result.push_back(static_cast<int32_t>(expert));
  }
  return result;
}

BudgetOptions budget_options(Napi::Env env, Napi::Object given, const std::string& name) {
  BudgetOptions options;
  options.slots = integer(env, given.Get("slots"), (name + ".slots").c_str());
  options.bytes = integer(env, given.Get("bytes"), (name + ".bytes").c_str());
  options.policy = choice<OffloadPolicy>(env, given.Get("policy"), name + ".policy");
  if (options.slots < 0 || options.bytes < 0) {
    throw_error(env, {Code::invalid_argument, name + ": expected slots and bytes of at least 0"});
  }
  return options;
}

std::optional<OffloadOptions> offload_options(Napi::Env env, Napi::Value value, int64_t experts) {
  if (!value.IsObject()) return std::nullopt;
  const Napi::Object given = value.As<Napi::Object>();
  OffloadOptions options;
  options.own = budget_options(env, given, "offload");
  options.pinned = expert_list(env, given.Get("pinned"), experts, "offload.pinned");
  options.rows_to_load = integer(env, given.Get("rowsToLoad"), "offload.rowsToLoad");
  return options;
}

static double number(int64_t value) { return static_cast<double>(value); }

// What the statistics of a layer and of a budget have in common.
template <class Stats>
static Napi::Object common_stats(Napi::Env env, const Stats& stats) {
  const OffloadCounts& counts = stats.counts;
  Napi::Object result = Napi::Object::New(env);
  result.Set("calls", number(counts.calls));
  result.Set("hits", number(counts.hits));
  result.Set("misses", number(counts.misses));
  result.Set("onCpu", number(counts.on_cpu));
  result.Set("prefetched", number(counts.prefetched));
  result.Set("evictions", number(counts.evictions));
  result.Set("slots", number(stats.slots));
  result.Set("expertBytes", number(stats.expert_bytes));
  result.Set("loadedBytes", number(stats.loaded_bytes));
  return result;
}

Napi::Object offload_stats(Napi::Env env, const OffloadStats& stats) {
  Napi::Object result = common_stats(env, stats);
  Napi::Array resident = Napi::Array::New(env, stats.resident.size());
  for (size_t i = 0; i < stats.resident.size(); ++i) resident.Set(static_cast<uint32_t>(i), stats.resident[i]);
  result.Set("resident", resident);
  return result;
}

Napi::Object budget_stats(Napi::Env env, const BudgetStats& stats) {
  Napi::Object result = common_stats(env, stats);
  result.Set("layers", number(stats.layers));
  result.Set("residentBytes", number(stats.resident * stats.expert_bytes));
  return result;
}

static const Napi::Int32Array integers(Napi::Env env, Napi::Value value, const char* name) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array) {
    return value.As<Napi::Int32Array>();
  }
  throw_error(env, {Code::invalid_argument, std::string(name) + ": expected an Int32Array"});
}

Napi::Value replay_offload(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t experts = integer(env, info[0], "experts");
  if (experts < 1 || experts > INT32_MAX) {
    throw_error(env, {Code::invalid_argument, "experts: expected from 1 to 2^31 - 1"});
  }
  std::optional<OffloadOptions> options = offload_options(env, info[1], experts);
  if (!options) throw_error(env, {Code::invalid_argument, "options: expected an object"});
  // An expert is a byte here.
  const int64_t slots = options->own.slots > 0 ? options->own.slots : options->own.bytes;
  if (slots < 1) throw_error(env, {Code::invalid_argument, "options: expected slots or bytes of at least 1"});
  if (std::ssize(options->pinned) >= slots && slots < experts) {
    throw_error(env, {Code::invalid_argument, "offload.pinned: expected fewer experts than slots"});
  }
  const Napi::Int32Array ids = integers(env, info[2], "ids");
  const Napi::Int32Array ends = integers(env, info[3], "ends");

  Residency residency(std::min(slots, experts), options->own.policy);
  residency.add(0, experts, options->pinned);
  std::vector<bool> used(static_cast<size_t>(experts));
  std::vector<int32_t> needed;
  size_t next = 0;
  for (size_t call = 0; call < ends.ElementLength(); ++call) {
    used.assign(used.size(), false);
    for (; next < ids.ElementLength() && static_cast<int64_t>(next) < ends[call]; ++next) {
      if (ids[next] >= 0 && ids[next] < experts) used[ids[next]] = true;
    }
    needed.clear();
    for (int32_t expert = 0; expert < experts; ++expert) {
      if (used[expert]) needed.push_back(expert);
    }
    residency.plan(needed);
  }
  return offload_stats(env, residency.stats(1));
}

}  // namespace moe::binding
