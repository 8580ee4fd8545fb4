// The operators of a device: read the arguments, enqueue.
#include "binding/arguments.h"
#include "binding/device.h"
#include "binding/packed_experts.h"

namespace moe::binding {

void DeviceObject::router_projection(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  RouterProjection problem;
  problem.x = tensor(env, info[0], keep);
  problem.weight = tensor(env, info[1], keep);
  problem.bias = optional_tensor(env, info[2], keep);
  problem.logits = tensor(env, info[3], keep);
  enqueue(env, &Backend::router_projection, problem, std::move(keep));
}

void DeviceObject::gating(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Gating problem;
  problem.logits = tensor(env, info[0], keep);
  problem.selection_bias = optional_tensor(env, info[1], keep);
  problem.ids = tensor(env, info[2], keep);
  problem.weights = tensor(env, info[3], keep);
  problem.rule = gating_rule(env, info[4].ToObject());
  enqueue(env, &Backend::gating, problem, std::move(keep));
}

void DeviceObject::hierarchical_gating(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  HierarchicalGating problem;
  problem.group_logits = tensor(env, info[0], keep);
  problem.logits = tensor(env, info[1], keep);
  problem.ids = tensor(env, info[2], keep);
  problem.weights = tensor(env, info[3], keep);
  problem.groups = gating_rule(env, info[4].ToObject());
  problem.experts = gating_rule(env, info[5].ToObject());
  enqueue(env, &Backend::hierarchical_gating, problem, std::move(keep));
}

void DeviceObject::sort(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Sort problem;
  problem.ids = tensor(env, info[0], keep);
  problem.offsets = tensor(env, info[1], keep);
  problem.tokens_per_expert = tensor(env, info[2], keep);
  problem.token_of_row = tensor(env, info[3], keep);
  problem.row_of_slot = tensor(env, info[4], keep);
  enqueue(env, &Backend::sort, problem, std::move(keep));
}

void DeviceObject::permute(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Permute problem;
  problem.x = tensor(env, info[0], keep);
  problem.token_of_row = tensor(env, info[1], keep);
  problem.rows = tensor(env, info[2], keep);
  enqueue(env, &Backend::permute, problem, std::move(keep));
}

void DeviceObject::unpermute(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Unpermute problem;
  problem.rows = tensor(env, info[0], keep);
  problem.row_of_slot = tensor(env, info[1], keep);
  problem.slots = tensor(env, info[2], keep);
  enqueue(env, &Backend::unpermute, problem, std::move(keep));
}

void DeviceObject::grouped_gemm(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  GroupedGemm problem;
  problem.x = tensor(env, info[0], keep);
  const std::shared_ptr<PackedExperts>& packed = argument<PackedExpertsObject>(info, 1).packed(env);
  problem.weight = packed.get();
  keep.push_back(packed);
  problem.bias = optional_tensor(env, info[2], keep);
  problem.offsets = tensor(env, info[3], keep);
  problem.token_of_row = optional_tensor(env, info[4], keep);
  problem.y = tensor(env, info[5], keep);
  enqueue(env, &Backend::grouped_gemm, problem, std::move(keep));
}

void DeviceObject::combine(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Combine problem;
  problem.rows = tensor(env, info[0], keep);
  problem.row_of_slot = tensor(env, info[1], keep);
  problem.weights = tensor(env, info[2], keep);
  problem.y = tensor(env, info[3], keep);
  enqueue(env, &Backend::combine, problem, std::move(keep));
}

void DeviceObject::copy_matrix(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  CopyMatrix problem;
  problem.source = matrix(env, info[0], keep);
  problem.target = tensor(env, info[1], keep);
  if (problem.target.size() != problem.source.rows * problem.source.columns) {
    throw_error(env, {Code::internal, "copyMatrix: expected a target of the matrix's size"});
  }
  enqueue(env, &Backend::copy_matrix, problem, std::move(keep));
}

}  // namespace moe::binding
