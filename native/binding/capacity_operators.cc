// The operators of a device that limit what experts take.
#include "binding/arguments.h"
#include "binding/device.h"

namespace moe::binding {

void DeviceObject::limit_capacity(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  LimitCapacity problem;
  problem.ids = tensor(env, info[0], keep);
  problem.weights = tensor(env, info[1], keep);
  problem.kept_ids = tensor(env, info[2], keep);
  problem.kept_weights = tensor(env, info[3], keep);
  problem.experts = integer(env, info[4], "numExperts");
  const Napi::Object limit = info[5].ToObject();
  problem.capacity = integer(env, limit.Get("capacity"), "capacity");
  problem.sequence_length = integer(env, limit.Get("sequenceLength"), "sequenceLength");
  problem.drop = static_cast<Drop>(name_index(env, limit.Get("drop"), kDropNames));
  problem.divisor = static_cast<KeptDivisor>(name_index(env, limit.Get("divisor"), kKeptDivisorNames));
  problem.scale = limit.Get("scale").ToNumber().FloatValue();
  enqueue(env, &Backend::limit_capacity, problem, std::move(keep));
}

void DeviceObject::expert_slots(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  ExpertSlots problem;
  problem.ids = tensor(env, info[0], keep);
  problem.slots = tensor(env, info[1], keep);
  enqueue(env, &Backend::expert_slots, problem, std::move(keep));
}

void DeviceObject::expert_choice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  ExpertChoice problem;
  problem.logits = tensor(env, info[0], keep);
  problem.tokens = tensor(env, info[1], keep);
  problem.token_weights = tensor(env, info[2], keep);
  problem.ids = tensor(env, info[3], keep);
  problem.weights = tensor(env, info[4], keep);
  problem.scoring = static_cast<ExpertScoring>(name_index(env, info[5], kExpertScoringNames));
  enqueue(env, &Backend::expert_choice, problem, std::move(keep));
}

}  // namespace moe::binding
