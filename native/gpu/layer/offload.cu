#include "gpu/layer/offload.h"

#include <numeric>

#include "gpu/gemm/kernels.h"

namespace moe::MOE_GPU_NAMESPACE {

Status Offload::resolve(const LayerDescription& layer, const gpu::DeviceTraits& traits, OffloadOptions* options,
                        int64_t* expert_bytes) {
  *expert_bytes = 0;
  for (const gpu::LayerProduct& each : gpu::layer_products(layer)) {
    if (each.group != LayerDescription::kBankGroup) continue;
    const gpu::GemmKernel* kernel = nullptr;
    MOE_TRY(gpu::find_best_gemm_kernel(*each.product.format, traits, &kernel));
    *expert_bytes += kernel->layout->measure(each.product).bytes;
  }
  return resolve_slots(layer.bank.count, *expert_bytes, options);
}

Offload::Offload(const LayerDescription& layer, const OffloadOptions& options, int64_t expert_bytes,
                 const LayerWeights& weights, Runtime& runtime)
    : layer_(layer), expert_bytes_(expert_bytes), runtime_(runtime), residency_(layer.bank.count, options) {
  for (const LayerWeights::Product& product : weights.products()) {
    if (product.group == LayerDescription::kBankGroup) matrices_.push_back(product.weight.get());
  }
}

Status Offload::create(const LayerDescription& layer, const OffloadOptions& options, int64_t expert_bytes,
                       const LayerWeights& weights, Runtime& runtime, std::unique_ptr<Offload>* offload) {
  std::unique_ptr<Offload> made(new Offload(layer, options, expert_bytes, weights, runtime));
  MOE_TRY(Uploads::create(runtime, &made->uploads_));
  *offload = std::move(made);
  return {};
}

Status Offload::prefetch(const std::vector<int32_t>& experts) {
  const std::vector<SlotLoad> loads = residency_.prefetch(experts);
  if (loads.empty()) return {};
  prefetching_ = true;
  // Their slots may be in use.
  MOE_TRY(uploads_->after_work());
  for (const GpuPackedExperts* matrix : matrices_) {
    for (const SlotLoad& load : loads) MOE_TRY(matrix->load(load.expert, load.slot, *uploads_));
  }
  return {};
}

Status Offload::load_all() {
  std::vector<int32_t> experts(static_cast<size_t>(layer_.bank.count));
  std::iota(experts.begin(), experts.end(), 0);
  MOE_TRY(prefetch(experts));
  if (!prefetching_) return {};
  MOE_TRY(uploads_->mark(0));
  MOE_TRY(uploads_->before_work(0));
  prefetching_ = false;
  return {};
}

void Offload::forget() { residency_.clear(); }

Status OffloadedPass::begin(const Pass& pass) {
  const auto experts = static_cast<size_t>(pass.layer.all_experts());
  const int64_t in_bank = pass.layer.bank.count;
  std::vector<int32_t> tokens(experts);
  MOE_TRY(offload_.runtime_.read(tokens.data(), pass.state.tokens_per_expert.data, experts * sizeof(int32_t)));
  std::vector<int32_t> needed;
  for (int32_t expert = 0; expert < in_bank; ++expert) {
    if (tokens[expert] > 0) needed.push_back(expert);
  }
  schedule_.emplace(offload_.residency_.plan(needed), std::ssize(offload_.matrices_));

  const std::vector<OffloadRound>& rounds = schedule_->rounds();
  const auto in_group = static_cast<size_t>(group_.count);
  std::vector<int32_t> places(rounds.size() * in_group, -1);
  // Shared experts in the group are always there, behind the slots, and are computed with the first round.
  const auto slots = static_cast<int32_t>(offload_.residency_.slots());
  std::iota(places.begin() + in_bank, places.begin() + group_.count, slots);
  for (size_t round = 0; round < rounds.size(); ++round) {
    for (const ResidentExpert& each : rounds[round].experts) places[round * in_group + each.expert] = each.slot;
  }
  MOE_TRY(places_.reserve(places.size() * sizeof(int32_t)));
  MOE_TRY(offload_.runtime_.write(places_.at(0), places.data(), places.size() * sizeof(int32_t)));

  Uploads& uploads = *offload_.uploads_;
  if (offload_.prefetching_) {
    MOE_TRY(uploads.mark(0));
    MOE_TRY(uploads.before_work(0));
    offload_.prefetching_ = false;
  }
  MOE_TRY(uploads.after_work());
  return schedule_->issue([&](int64_t product, int64_t round) { return load(product, round); });
}

Status OffloadedPass::load(int64_t product, int64_t round) {
  Uploads& uploads = *offload_.uploads_;
  const OffloadRound& loads = schedule_->rounds()[round];
  if (loads.after >= 0) MOE_TRY(uploads.after_work());
  const GpuPackedExperts& matrix = *offload_.matrices_[product];
  for (const SlotLoad& each : loads.loads) MOE_TRY(matrix.load(each.expert, each.slot, uploads));
  return uploads.mark(mark(product, round));
}

size_t OffloadedPass::mark(int64_t product, int64_t round) const {
  return static_cast<size_t>(1 + product * std::ssize(schedule_->rounds()) + round);
}

Status OffloadedPass::run_rounds(const std::function<Status(const MappedExperts&)>& launch) {
  const int64_t product = product_++;
  return schedule_->run(
      [&](int64_t to, int64_t round) { return load(to, round); },
      [&](int64_t round) -> Status {
        if (!schedule_->rounds()[round].loads.empty()) {
          MOE_TRY(offload_.uploads_->before_work(mark(product, round)));
        }
        const auto offset = static_cast<size_t>(round * group_.count) * sizeof(int32_t);
        return launch(
            {.group = group_, .places = reinterpret_cast<const int*>(places_.at(offset)), .others = round == 0});
      });
}

}  // namespace moe::MOE_GPU_NAMESPACE
