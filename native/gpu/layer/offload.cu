#include "gpu/layer/offload.h"

#include <numeric>

#include "gpu/gemm/kernels.h"

namespace moe::MOE_GPU_NAMESPACE {

LayerDescription Offload::with_groups(LayerDescription layer) {
  if (layer.shared_experts > 0 && !layer.formats.shared) layer.formats.shared = layer.formats.experts();
  return layer;
}

Status Offload::create(const LayerDescription& layer, const OffloadOptions& options, Runtime& runtime,
                       std::unique_ptr<LayerWeights>* weights, std::unique_ptr<Offload>* offload) {
  std::vector<int64_t> bytes;
  for (const gpu::LayerProduct& each : gpu::layer_products(layer)) {
    if (each.group != LayerDescription::kBankGroup) continue;
    const gpu::GemmKernel* kernel = nullptr;
    MOE_TRY(gpu::find_best_gemm_kernel(*each.product.format, runtime.traits(), &kernel));
    bytes.push_back(kernel->layout->measure(each.product).bytes);
  }
  const bool shares_budget = options.budget != nullptr;
  const std::shared_ptr<SlotMemory> slots = shares_budget ? std::static_pointer_cast<SlotMemory>(options.budget)
                                                          : std::make_shared<SlotMemory>(runtime, options.own);
  std::unique_ptr<Offload> made(new Offload(layer, slots, shares_budget, runtime));
  MOE_TRY(OffloadShare::join(slots, layer.bank.count, std::move(bytes), options, {}, &made->share_));
  MOE_TRY(LayerWeights::create(layer, slots.get(), runtime, weights));
  for (const LayerWeights::Product& product : (*weights)->products()) {
    if (product.group == LayerDescription::kBankGroup) made->matrices_.push_back(product.weight.get());
  }
  *offload = std::move(made);
  return {};
}

Status Offload::prefetch(const std::vector<int32_t>& experts) {
  const std::vector<SlotLoad> loads = share_->prefetch(experts);
  if (loads.empty()) return {};
  slots_->prefetching = true;
  return slots_->upload([&](Uploads& uploads) -> Status {
    // Their slots may be in use.
    MOE_TRY(uploads.after_work());
    for (const GpuPackedExperts* matrix : matrices_) {
      for (const SlotLoad& load : loads) MOE_TRY(matrix->load(load.expert, load.slot, uploads));
    }
    return {};
  });
}

Status Offload::wait_for_prefetched() {
  if (!slots_->prefetching) return {};
  MOE_TRY(slots_->upload([](Uploads& uploads) -> Status {
    MOE_TRY(uploads.mark(0));
    return uploads.before_work(0);
  }));
  slots_->prefetching = false;
  return {};
}

Status Offload::load_all() {
  std::vector<int32_t> experts(static_cast<size_t>(layer_.bank.count));
  std::iota(experts.begin(), experts.end(), 0);
  MOE_TRY(prefetch(experts));
  return wait_for_prefetched();
}

Status OffloadedPass::begin(const Pass& pass) {
  const auto experts = static_cast<size_t>(group_.count);
  std::vector<int32_t> tokens(experts);
  MOE_TRY(offload_.runtime_.read(tokens.data(), pass.state.tokens_per_expert.data, experts * sizeof(int32_t)));
  std::vector<int32_t> needed;
  for (int32_t expert = 0; expert < group_.count; ++expert) {
    if (tokens[expert] > 0) needed.push_back(expert);
  }
  schedule_.emplace(offload_.share_->plan(needed), std::ssize(offload_.matrices_));

  const std::vector<OffloadRound>& rounds = schedule_->rounds();
  std::vector<int32_t> places(rounds.size() * experts, -1);
  for (size_t round = 0; round < rounds.size(); ++round) {
    for (const ResidentExpert& each : rounds[round].experts) places[round * experts + each.expert] = each.slot;
  }
  MOE_TRY(places_.reserve(places.size() * sizeof(int32_t)));
  MOE_TRY(offload_.runtime_.write(places_.at(0), places.data(), places.size() * sizeof(int32_t)));

  MOE_TRY(offload_.wait_for_prefetched());
  MOE_TRY(offload_.slots_->upload([](Uploads& uploads) { return uploads.after_work(); }));
  return schedule_->issue([&](int64_t product, int64_t round) { return load(product, round); });
}

Status OffloadedPass::load(int64_t product, int64_t round) {
  const OffloadRound& loads = schedule_->rounds()[round];
  const GpuPackedExperts& matrix = *offload_.matrices_[product];
  return offload_.slots_->upload([&](Uploads& uploads) -> Status {
    if (loads.after >= 0) MOE_TRY(uploads.after_work());
    for (const SlotLoad& each : loads.loads) MOE_TRY(matrix.load(each.expert, each.slot, uploads));
    return uploads.mark(mark(product, round));
  });
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
          MOE_TRY(offload_.slots_->upload([&](Uploads& uploads) { return uploads.before_work(mark(product, round)); }));
        }
        const auto offset = static_cast<size_t>(round * group_.count) * sizeof(int32_t);
        return launch(
            {.group = group_, .places = reinterpret_cast<const int*>(places_.at(offset)), .others = round == 0});
      });
}

}  // namespace moe::MOE_GPU_NAMESPACE
