// The operators of a device that measure routers: read the arguments, enqueue.
#include "binding/arguments.h"
#include "binding/device.h"

namespace moe::binding {

void DeviceObject::router_scores(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  RouterScores problem;
  problem.logits = tensor(env, info[0], keep);
  problem.scores = optional_tensor(env, info[1], keep);
  problem.log_sum_exp = optional_tensor(env, info[2], keep);
  problem.entropy = optional_tensor(env, info[3], keep);
  problem.scoring = static_cast<Scoring>(name_index(env, info[4], kScoringNames));
  problem.normalize = info[5].ToBoolean();
  enqueue(env, &Backend::router_scores, problem, std::move(keep));
}

void DeviceObject::expert_totals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  ExpertTotals problem;
  problem.ids = tensor(env, info[0], keep);
  problem.weights = optional_tensor(env, info[1], keep);
  problem.token_mask = optional_tensor(env, info[2], keep);
  problem.tokens = tensor(env, info[3], keep);
  problem.dropped = tensor(env, info[4], keep);
  problem.sums = optional_tensor(env, info[5], keep);
  problem.choices = integer(env, info[6], "choices");
  enqueue(env, &Backend::expert_totals, problem, std::move(keep));
}

void DeviceObject::column_means(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  ColumnMeans problem;
  problem.values = tensor(env, info[0], keep);
  problem.token_mask = optional_tensor(env, info[1], keep);
  problem.means = tensor(env, info[2], keep);
  problem.counts = optional_tensor(env, info[3], keep);
  problem.square = info[4].ToBoolean();
  problem.total = info[5].ToBoolean();
  enqueue(env, &Backend::column_means, problem, std::move(keep));
}

void DeviceObject::balance_loss(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  BalanceLoss problem;
  problem.tokens = tensor(env, info[0], keep);
  problem.means = tensor(env, info[1], keep);
  problem.counts = tensor(env, info[2], keep);
  problem.loss = tensor(env, info[3], keep);
  problem.factor = info[4].ToNumber().DoubleValue();
  enqueue(env, &Backend::balance_loss, problem, std::move(keep));
}

void DeviceObject::imbalance(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Imbalance problem;
  problem.values = tensor(env, info[0], keep);
  problem.result = tensor(env, info[1], keep);
  problem.measure = static_cast<ImbalanceMeasure>(name_index(env, info[2], kImbalanceMeasureNames));
  problem.epsilon = info[3].ToNumber().DoubleValue();
  enqueue(env, &Backend::imbalance, problem, std::move(keep));
}

void DeviceObject::update_selection_bias(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  SelectionBiasUpdate problem;
  problem.bias = tensor(env, info[0], keep);
  problem.tokens = tensor(env, info[1], keep);
  problem.updated = tensor(env, info[2], keep);
  problem.rate = info[3].ToNumber().DoubleValue();
  enqueue(env, &Backend::update_selection_bias, problem, std::move(keep));
}

void DeviceObject::accumulate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Keep keep;
  Accumulate problem;
  problem.values = tensor(env, info[0], keep);
  problem.totals = tensor(env, info[1], keep);
  problem.values_are_totals = info[2].ToBoolean();
  problem.factor = info[3].ToNumber().DoubleValue();
  enqueue(env, &Backend::accumulate, problem, std::move(keep));
}

}  // namespace moe::binding
