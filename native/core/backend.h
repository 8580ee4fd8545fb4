// What every native device implements: memory and the operators of core/operators/list.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/content.h"
#include "core/layer/description.h"
#include "core/layer/forward_state.h"
#include "core/layer/weight_role.h"
#include "core/mapped_file.h"
#include "core/offload/budget.h"
#include "core/operators/list.h"
#include "core/rounding.h"
#include "core/status.h"
#include "core/variables.h"

namespace moe {

// Expert weights in a device's own layout. Its parts are experts.
class PackedExperts : public Content {
 public:
  explicit PackedExperts(const ExpertProduct& weights) : weights_(weights) {}
  // Packs one expert: weight [rows, columns] or, if gated, gate and up of [rows / 2, columns] each. Missing rows and
  // columns become zeros.
  virtual Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) = 0;
  // Writes one expert's matrix, as tokens are multiplied by it, to a float tensor [rows, columns]; of a gated product
  // the gate or, if `up`, the other half.
  virtual Status copy_expert(int64_t expert, bool up, const TensorView& target) const = 0;
  virtual size_t bytes() const = 0;
  // Whether weights are read where they are, when a product needs them: then keep() what holds them.
  virtual bool borrows() const { return false; }
  void keep(Uses weights) { kept_.push_back(std::move(weights)); }
  const ExpertProduct& weights() const { return weights_; }

 private:
  ExpertProduct weights_;
  std::vector<Uses> kept_;
};

constexpr int64_t kManyProducts = -1;

inline Status GroupedGemm::check() const {
  const ExpertProduct& product = weight->weights();
  const int64_t rows = y.shape[0];
  return expect_sizes(offsets.shape[0] == product.experts + 1 && x.shape[1] == product.columns &&
                          y.shape[1] == product.outputs() && (!token_of_row.absent() || x.shape[0] == rows) &&
                          (bias.absent() || bias.shape[1] == product.rows) && rows <= INT32_MAX,
                      "groupedGemm: expected tensors that fit the packed experts, and fewer than 2^31 rows");
}

// A part of a layer's weights as a device stores them, such as the router or a bias.
struct WeightPart {
  std::string name;
  void* data;
  size_t bytes;
  // Of a part that is stored elsewhere: the file that is mapped there, or null.
  MappedFile* file = nullptr;
};

// A forward over fixed tensors, prepared once and then run many times.
class CapturedForward {
 public:
  virtual ~CapturedForward() = default;
  virtual Status replay() = 0;
};

// Its parts are the bank's experts, the shared ones and, behind them, router, selection bias and shared gate.
class Layer : public Content {
 public:
  explicit Layer(const LayerDescription& description) : description_(description) {}
  virtual Status set_router(const WeightView& weight, const MatrixView& bias) = 0;
  // [E], kept in float32.
  virtual Status set_selection_bias(const MatrixView& bias) = 0;
  // weight [shared_gate_rows, H], bias [shared_gate_rows] or absent.
  virtual Status set_shared_gate(const WeightView& weight, const MatrixView& bias) = 0;
  // Of the bank's experts and then the shared ones. Missing rows and columns become zeros; an absent bias, and what is
  // missing of one, stays as it was.
  virtual Status set_expert(int64_t expert, const ExpertViews& weights) = 0;
  // Writes a weight, expert `expert`'s if experts have it, to a tensor with as many elements, of the weight's own dtype
  // or f32; zeros for a bias that was never set. check_copied_weight() must have accepted them. UNSUPPORTED_OPERATION
  // on a GPU for an expert that is offloaded.
  virtual Status copy_weight(WeightRole role, int64_t expert, const TensorView& target);
  // Makes an empty state for run() to keep results in. The device must outlive it.
  virtual std::unique_ptr<ForwardState> new_state() = 0;
  // Runs stages in order. check_stages() must have accepted them.
  virtual Status run(Stages stages, const LayerForward& forward) = 0;
  // Before a capture, on any thread: keeps all experts of a layer with offload resident, once they are loaded, while
  // `held` lives. UNSUPPORTED_OPERATION if there is no slot for each, because a capture decides nothing when it is
  // replayed.
  virtual Status hold_experts(std::shared_ptr<void>*) { return {}; }
  // Prepares a run of these stages for replays, which compute with the layer's weights of their time; `forward` has no
  // state. The layer, its held experts and the tensors must outlive it.
  virtual Status capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured);
  // How many experts of a layer with offload can be resident; any thread may ask. 0: without offload.
  virtual int64_t offload_slots() const { return 0; }
  // Of a layer with offload: loads experts of the bank before a run needs them, and what happened so far.
  virtual Status prefetch(const std::vector<int32_t>& experts);
  virtual OffloadStats offload_stats() const { return {}; }
  // Which of the experts that the next run needs it leaves to another device: it will not be given their choices.
  virtual std::vector<int32_t> leave(const std::vector<ExpertRows>&) { return {}; }
  // After that run: loads one of the experts that were left, if it is better to have than one that is resident.
  virtual Status adopt() { return {}; }
  // Times of the last run that had a y; replays do not count. A GPU times the runs after the first call, which gives
  // NaN.
  virtual StageTimes stage_times() = 0;
  virtual size_t bytes() const = 0;
  // Of weights that are kept in the host's memory besides.
  virtual size_t host_bytes() const { return 0; }
  // All weights, once they are set, in the layout that Backend::weight_layout() names; nothing if that is empty.
  virtual std::vector<WeightPart> parts() { return {}; }
  // Checksums of the parts, to be stored with them as a part called "checksums". A layer over parts of a file checks
  // the weights against it before it first uses them.
  virtual std::vector<uint64_t> checksums() { return {}; }
  const LayerDescription& description() const { return description_; }

 private:
  LayerDescription description_;
};

struct DeviceOptions {
  int threads = 0;  // 0: as many as this process may use
  bool poison = false;
  // What GPUs may round, so that tensor cores can multiply it faster.
  AllowedRoundings allowed = {};
  // On GPUs: a stream of the caller's to work on, which outlives the device. Null: one of the device's own.
  void* stream = nullptr;
  Variables variables = {};
};

// Counts of events that are well defined but worth knowing, since the device was opened.
struct Warnings {
  std::atomic<int64_t> non_finite_logit_rows{0};
};

// One device. Memory is allocated and released on any thread. What makes or describes weights (packed_experts(),
// layer(), stored_layer(), offload_budget(), weight_layout(), map_file(), and the sizes of what they made) is called on
// JavaScript's thread, while the stream may work. Operators, write(), read(), synchronize(), and what reads or writes
// weights are called on the device's one stream thread, in the order of the calls. Operators return once their work is
// in order on the device, so an error in the data (an id out of range) may be returned by the operator or by the next
// synchronize().
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* description() const = 0;

  // Aligned to at least 64 bytes. On a device opened with `poison`, fresh memory is filled with NaN patterns.
  virtual Status allocate(size_t bytes, void** data) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  // Whether the host can address device memory.
  virtual bool host_addressable() const = 0;
  // Host to device; `host` may be reused on return.
  virtual Status write(void* device, const void* host, size_t bytes) = 0;
  // Device to host, complete on return.
  virtual Status read(void* host, const void* device, size_t bytes) = 0;
  virtual Status synchronize() = 0;
  // Any thread: waits until enqueued work no longer uses its memory. `then` may instead be called once that is so, by
  // any thread, until the next wait ends; it may tell an owner, and must not throw, wait or use the device. While the
  // caller captures its stream, which allows no wait: UNSUPPORTED_OPERATION, and `then` is called after a later wait.
  virtual Status settle(std::function<void()> then) noexcept {
    if (then) then();
    return {};
  }
  // After the last work: the device does not use a stream of the caller's any more, though memory is still released.
  virtual void release_stream() noexcept {}

#define MOE_OPERATOR(Operator) virtual Status run(const Operator& p) = 0;
  MOE_OPERATORS(MOE_OPERATOR)
#undef MOE_OPERATOR

  // If they are for a single product, `rows` are its rows, else kManyProducts.
  virtual Status packed_experts(const ExpertProduct& weights, int64_t rows, std::unique_ptr<PackedExperts>* packed) = 0;
  // For layers of this device, which must outlive it.
  virtual std::shared_ptr<OffloadBudget> offload_budget(const BudgetOptions& options) = 0;
  // With `offload`, which may be null, only some of the bank's experts are in the device's memory at a time. Its budget
  // is one of this device or null.
  virtual Status layer(const LayerDescription& description, const OffloadOptions* offload,
                       std::unique_ptr<Layer>* layer) = 0;

  // Names the layout of a layer's parts, for file names. Parts of a layer with an equal description can be passed to
  // stored_layer() where this name is equal, in this process or another. Empty if the device cannot compute with
  // weights stored elsewhere.
  virtual std::string weight_layout(const LayerDescription&) const { return {}; }
  // Maps the first `bytes` of an open file read-only, as memory for stored_layer(). `path` is where it was opened.
  virtual Status map_file(int descriptor, std::string path, size_t bytes, std::shared_ptr<MappedFile>* file);
  // Makes a layer that reads `parts` in place; they must outlive it.
  virtual Status stored_layer(const LayerDescription& description, const std::vector<WeightPart>& parts,
                              const OffloadOptions* offload, std::unique_ptr<Layer>* layer);

  Warnings warnings;
};

// For devices that have nothing to prepare: a replay is a run.
class RunAgain final : public CapturedForward {
 public:
  RunAgain(Layer& layer, Stages stages, const LayerForward& forward)
      : layer_(layer), stages_(stages.begin(), stages.end()), forward_(forward) {}
  Status replay() override { return layer_.run(stages_, forward_); }

 private:
  Layer& layer_;
  std::vector<Stage> stages_;
  LayerForward forward_;
};

inline Status Layer::capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) {
  *captured = std::make_unique<RunAgain>(*this, stages, forward);
  return {};
}

inline Status Layer::copy_weight(WeightRole, int64_t, const TensorView&) {
  return {Code::unsupported_operation, "this layer's weights cannot be copied"};
}

inline Status Layer::prefetch(const std::vector<int32_t>&) {
  return {Code::invalid_argument, "prefetch requires a layer with offload"};
}

inline Status Backend::map_file(int, std::string, size_t, std::shared_ptr<MappedFile>*) {
  return {Code::unsupported_operation, "this device cannot map weights from a file"};
}

inline Status Backend::stored_layer(const LayerDescription&, const std::vector<WeightPart>&, const OffloadOptions*,
                                    std::unique_ptr<Layer>*) {
  return {Code::unsupported_operation, "this device cannot compute with weights stored elsewhere"};
}

}  // namespace moe
