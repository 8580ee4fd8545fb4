#include "core/offload/split_layer.h"

#include <algorithm>
#include <future>
#include <memory>
#include <vector>

#include "core/device_memory.h"
#include "core/host_memory.h"

namespace moe {

namespace {

TensorView shape(DType dtype, int64_t rows, int64_t columns) {
  return {.dtype = dtype, .rank = 2, .shape = {rows, columns}};
}

// What the host holds of a layer: the bank's experts, and the gate that weighs a token's choices, if there is one.
LayerDescription on_host(LayerDescription layer) {
  layer.shared_experts = 0;
  layer.formats.shared.reset();
  if (layer.shared_gate != SharedGate::softmax) layer.shared_gate = SharedGate::none;
  return layer;
}

// Keeps the first error in data, for which outputs are still defined, and returns others.
Status unless_in_data(Status status, Status* in_data) {
  if (!status.in_data()) return status;
  if (in_data->ok()) *in_data = std::move(status);
  return {};
}

// Weights of a device as the host can read them.
class HostCopies {
 public:
  explicit HostCopies(Backend& device) : device_(device) {}

  Status copy(MatrixView& matrix) {
    if (device_.host_addressable() || matrix.absent() || matrix.rows == 0 || matrix.columns == 0) return {};
    const int64_t elements = (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride + 1;
    return copy(matrix.data, elements * static_cast<int64_t>(info(matrix.dtype).bytes));
  }
  Status copy(WeightView& weight) {
    for (MatrixView* part : {&weight.codes, &weight.scales, &weight.super_scales, &weight.zeros, &weight.super_zeros}) {
      MOE_TRY(copy(*part));
    }
    if (device_.host_addressable()) return {};
    if (weight.input_scale != nullptr) MOE_TRY(copy(weight.input_scale, weight.columns * int64_t{sizeof(float)}));
    if (weight.input_order != nullptr) MOE_TRY(copy(weight.input_order, weight.columns * int64_t{sizeof(int32_t)}));
    return {};
  }
  // What the waits for the copies have found in the data of earlier work.
  Status in_data() const { return in_data_; }

 private:
  template <class T>
  Status copy(const T*& data, int64_t bytes) {
    std::shared_ptr<void>& copied = memory_.emplace_back();
    MOE_TRY(host_memory(static_cast<size_t>(bytes), &copied));
    MOE_TRY(unless_in_data(device_.read(copied.get(), data, static_cast<size_t>(bytes)), &in_data_));
    data = static_cast<const T*>(copied.get());
    return {};
  }

  Backend& device_;
  Status in_data_;
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace

Status SplitLayer::create(std::unique_ptr<Layer> layer, Backend& device, Backend& host, std::unique_ptr<Layer>* split) {
  std::unique_ptr<SplitLayer> made(new SplitLayer(std::move(layer), device, host));
  MOE_TRY(host.layer(on_host(made->description()), nullptr, &made->on_host_));
  *split = std::move(made);
  return {};
}

Status SplitLayer::set_shared_gate(const WeightView& weight, const MatrixView& bias) {
  MOE_TRY(on_device_->set_shared_gate(weight, bias));
  if (on_host_->description().shared_gate == SharedGate::none) return {};
  HostCopies copies(device_);
  WeightView own_weight = weight;
  MatrixView own_bias = bias;
  MOE_TRY(copies.copy(own_weight));
  MOE_TRY(copies.copy(own_bias));
  MOE_TRY(on_host_->set_shared_gate(own_weight, own_bias));
  return copies.in_data();
}

Status SplitLayer::set_expert(int64_t expert, const ExpertViews& weights) {
  MOE_TRY(on_device_->set_expert(expert, weights));
  if (expert >= description().bank.count) return {};
  HostCopies copies(device_);
  ExpertViews own = weights;
  for (WeightView* weight : {&own.gate, &own.up, &own.multiplier, &own.down}) MOE_TRY(copies.copy(*weight));
  for (MatrixView* bias : {&own.gate_bias, &own.up_bias, &own.down_bias}) MOE_TRY(copies.copy(*bias));
  MOE_TRY(on_host_->set_expert(expert, own));
  return copies.in_data();
}

StageTimes SplitLayer::stage_times() {
  timing_ = true;
  StageTimes times = on_device_->stage_times();
  for (int stage = 0; stage < kStageCount; ++stage) times.seconds[stage] += routing_times_.seconds[stage];
  return times;
}

Status SplitLayer::run(Stages stages, const LayerForward& f) {
  const auto sort = static_cast<size_t>(std::find(stages.begin(), stages.end(), Stage::sort) - stages.begin());
  const int64_t tokens = f.x.shape[0];
  routing_times_ = {};
  if (sort == stages.size() || tokens == 0) return on_device_->run(stages, f);
  if (f.keeps_rows()) {
    return {Code::unsupported_operation, "forward: expected no rows to keep of a layer that leaves experts to the CPU"};
  }
  if (!contains(stages, Stage::combine)) {
    return {Code::unsupported_operation,
            "stages: expected combine and sort in one call of a layer that leaves experts to the CPU"};
  }
  std::unique_ptr<ForwardState> state;
  DeviceMemory ids(device_), weights(device_);
  LayerForward routed = f;
  if (f.state == nullptr) {
    state = new_state();
    routed.state = state.get();
  }
  if (f.ids.absent()) {
    const int64_t choices = f.choices(description());
    MOE_TRY(ids.reserve(shape(DType::i32, tokens, choices), &routed.ids));
    MOE_TRY(weights.reserve(shape(DType::f32, tokens, choices), &routed.weights));
  }
  Status in_data;
  if (sort > 0) {
    MOE_TRY(unless_in_data(on_device_->run(stages.first(sort), routed), &in_data));
    MOE_TRY(unless_in_data(device_.synchronize(), &in_data));
    // Not unless they are wanted: a GPU that is asked for times takes those of every run from then on.
    if (timing_) routing_times_ = on_device_->stage_times();
  }
  MOE_TRY(unless_in_data(run_split(stages.subspan(sort), routed), &in_data));
  return in_data;
}

Status SplitLayer::run_split(Stages stages, const LayerForward& f) {
  std::vector<int32_t> ids(static_cast<size_t>(f.ids.size()));
  Status in_data;
  MOE_TRY(unless_in_data(device_.read(ids.data(), f.ids.data, ids.size() * sizeof(int32_t)), &in_data));
  const Left left = take_left(ids);
  const Status run = left.choices == 0 ? on_device_->run(stages, f) : run_on_both(stages, f, ids, left);
  MOE_TRY(unless_in_data(run, &in_data));
  MOE_TRY(unless_in_data(on_device_->adopt(), &in_data));
  return in_data;
}

SplitLayer::Left SplitLayer::take_left(std::vector<int32_t>& ids) {
  const auto [first, count] = description().bank;
  std::vector<int32_t> rows(static_cast<size_t>(count), 0);
  const auto in_bank = [&, first = first, count = count](int32_t id) { return id >= first && id < first + count; };
  for (const int32_t id : ids) {
    if (in_bank(id)) ++rows[id - first];
  }
  std::vector<ExpertRows> needed;
  for (int32_t expert = 0; expert < count; ++expert) {
    if (rows[expert] > 0) needed.push_back({.expert = expert, .rows = rows[expert]});
  }
  std::vector<bool> is_left(static_cast<size_t>(count), false);
  for (const int32_t expert : on_device_->leave(needed)) is_left[expert] = true;
  Left left{.ids = std::vector<int32_t>(ids.size(), -1)};
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!in_bank(ids[i]) || !is_left[ids[i] - first]) continue;
    std::swap(left.ids[i], ids[i]);
    ++left.choices;
  }
  return left;
}

Status SplitLayer::run_on_both(Stages stages, const LayerForward& f, const std::vector<int32_t>& ids,
                               const Left& left) {
  Status in_data;
  DeviceMemory host_x(host_), host_weights(host_), host_y(host_);
  LayerForward there{.max_choices = left.choices};
  MOE_TRY(host_x.reserve(f.x, &there.x));
  MOE_TRY(host_weights.reserve(f.weights, &there.weights));
  MOE_TRY(host_y.reserve(f.x, &there.y));
  there.ids = shape(DType::i32, f.ids.shape[0], f.ids.shape[1]);
  there.ids.data = const_cast<int32_t*>(left.ids.data());
  MOE_TRY(unless_in_data(device_.read(there.x.data, f.x.data, static_cast<size_t>(f.x.bytes())), &in_data));
  MOE_TRY(unless_in_data(device_.read(there.weights.data, f.weights.data, static_cast<size_t>(f.weights.bytes())),
                         &in_data));
  std::future<Status> on_host = std::async([&] { return on_host_->run(kRoutedStages, there); });

  // The device's outputs, and behind them room for the host's.
  DeviceMemory device_ids(device_), both(device_);
  TensorView outputs;
  MOE_TRY(both.reserve(shape(f.y.dtype, 2 * f.y.shape[0], f.y.shape[1]), &outputs));
  LayerForward here = f;
  here.residual = {};
  here.y.data = outputs.data;
  MOE_TRY(device_ids.reserve(f.ids, &here.ids));
  MOE_TRY(device_.write(here.ids.data, ids.data(), ids.size() * sizeof(int32_t)));
  MOE_TRY(unless_in_data(on_device_->run(stages, here), &in_data));
  MOE_TRY(unless_in_data(on_host.get(), &in_data));
  const auto bytes = static_cast<size_t>(f.y.bytes());
  MOE_TRY(device_.write(outputs.as<char>() + bytes, there.y.data, bytes));
  MOE_TRY(unless_in_data(add_outputs(f, left, outputs), &in_data));
  return in_data;
}

// Combines `outputs` [2 T, H], the device's and then the host's, to y: for each token one row, or one of both.
Status SplitLayer::add_outputs(const LayerForward& f, const Left& left, const TensorView& outputs) {
  const int64_t tokens = f.ids.shape[0], choices = f.ids.shape[1];
  std::vector<int32_t> row_of_slot;
  for (int64_t token = 0; token < tokens; ++token) {
    const int32_t* ids = left.ids.data() + token * choices;
    const bool has_host_row = std::any_of(ids, ids + choices, [](int32_t id) { return id >= 0; });
    row_of_slot.push_back(static_cast<int32_t>(token));
    row_of_slot.push_back(has_host_row ? static_cast<int32_t>(tokens + token) : -1);
  }
  const std::vector<float> ones(row_of_slot.size(), 1.0f);
  DeviceMemory rows(device_), weights(device_);
  Combine sum;
  sum.rows = outputs;
  sum.residual = f.residual;
  sum.y = f.y;
  MOE_TRY(rows.reserve(shape(DType::i32, tokens, 2), &sum.row_of_slot));
  MOE_TRY(weights.reserve(shape(DType::f32, tokens, 2), &sum.weights));
  MOE_TRY(device_.write(sum.row_of_slot.data, row_of_slot.data(), row_of_slot.size() * sizeof(int32_t)));
  MOE_TRY(device_.write(sum.weights.data, ones.data(), ones.size() * sizeof(float)));
  return device_.run(sum);
}

}  // namespace moe
