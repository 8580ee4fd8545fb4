// Random numbers and noisy gating: read the arguments, enqueue.
#include "binding/arguments.h"
#include "binding/device.h"

namespace moe::binding {

static uint64_t seed(Napi::Env env, Napi::Value value) {
  bool lossless = false;
  const uint64_t bits = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) throw_error(env, {Code::invalid_argument, "seed: expected a bigint from 0 to 2^64 - 1"});
  return bits;
}

void DeviceObject::random(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Random problem;
  problem.seed = seed(env, info[0]);
  problem.offset = integer(env, info[1], "offset");
  problem.distribution = static_cast<Distribution>(name_index(env, info[2], kDistributionNames));
  problem.values = tensor(env, info[3], keep);
  enqueue(env, &Backend::random, problem, std::move(keep));
}

void DeviceObject::jitter(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Jitter problem;
  problem.x = tensor(env, info[0], keep);
  problem.seed = seed(env, info[1]);
  problem.epsilon = info[2].ToNumber().FloatValue();
  problem.y = tensor(env, info[3], keep);
  enqueue(env, &Backend::jitter, problem, std::move(keep));
}

void DeviceObject::noisy_logits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  NoisyLogits problem;
  problem.clean = tensor(env, info[0], keep);
  problem.spread = tensor(env, info[1], keep);
  problem.noise = tensor(env, info[2], keep);
  problem.epsilon = info[3].ToNumber().FloatValue();
  problem.logits = tensor(env, info[4], keep);
  problem.deviation = tensor(env, info[5], keep);
  enqueue(env, &Backend::noisy_logits, problem, std::move(keep));
}

void DeviceObject::expert_load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  ExpertLoad problem;
  problem.clean = tensor(env, info[0], keep);
  problem.noisy = tensor(env, info[1], keep);
  problem.deviation = tensor(env, info[2], keep);
  problem.token_mask = optional_tensor(env, info[3], keep);
  problem.top_k = static_cast<int32_t>(integer(env, info[4], "topK"));
  problem.group_ids = optional_tensor(env, info[5], keep);
  problem.group_load = optional_tensor(env, info[6], keep);
  problem.load = tensor(env, info[7], keep);
  enqueue(env, &Backend::expert_load, problem, std::move(keep));
}

}  // namespace moe::binding
