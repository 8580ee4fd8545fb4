// Offloading of experts: its options, what it tells, and its decisions without a device.
#pragma once

#include <optional>
#include <string>

#include "binding/napi_setup.h"
#include "core/offload/budget.h"

namespace moe::binding {

// A list of experts from 0 to experts - 1. Messages call it `name`.
std::vector<int32_t> expert_list(Napi::Env env, Napi::Value value, int64_t experts, const char* name);

// The options slots, bytes and policy. Messages call the object `name`.
BudgetOptions budget_options(Napi::Env env, Napi::Object given, const std::string& name);

// The options of a layer that holds `experts` experts, without a budget that it shares; none if the value is null or
// undefined.
std::optional<OffloadOptions> offload_options(Napi::Env env, Napi::Value value, int64_t experts);

Napi::Object offload_stats(Napi::Env env, const OffloadStats& stats);
Napi::Object budget_stats(Napi::Env env, const BudgetStats& stats);

// replayOffload(experts, options, ids, ends): what a Residency would do for calls that use the experts
// ids[ends[i - 1]] .. ids[ends[i] - 1], in any order; -1 is no expert.
Napi::Value replay_offload(const Napi::CallbackInfo& info);

}  // namespace moe::binding
