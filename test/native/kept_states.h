// Stages that run in several calls over one kept state give the bits that one call gives: a test for every device.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "check.h"
#include "core/backend.h"
#include "device_memory.h"
#include "random_weight.h"

namespace moe::test {

class KeptStates {
 public:
  KeptStates(Backend& backend, const LayerDescription& description, DType x, int64_t tokens)
      : backend_(backend),
        description_(description),
        x_(draw(plain_format(x), tokens, description.hidden)),
        other_x_(draw(plain_format(x), tokens, description.hidden)),
        y_(draw(plain_format(x), tokens, description.hidden)),
        ids_(draw(kF32Format, tokens, description.gating.top_k)),
        weights_(draw(kF32Format, tokens, description.gating.top_k)) {
    MOE_CHECK(backend.layer(description, nullptr, &layer_).ok());
    set_weights();
  }

  // The whole forward, and that of a given routing.
  void check() {
    LayerForward forward{.x = tensor(x_), .y = tensor(y_)};
    check(kForwardStages, forward);
    forward.weights = tensor(weights_);
    forward.ids = tensor(ids_);
    forward.ids.dtype = DType::i32;
    MOE_CHECK(layer_->run(kRouteStages, forward).ok());
    check(kRoutedStages, forward);
  }

 private:
  // A random matrix of a plain format, in memory of the device.
  struct Matrix {
    WeightView view;
    DeviceMemory& memory;
  };

  Matrix draw(const WeightFormat& format, int64_t rows, int64_t columns) {
    const RandomWeight values(random_, format, rows, columns);
    DeviceMemory& memory = memory_.emplace_back(backend_, static_cast<size_t>(rows * format.row_bytes(columns)));
    memory.write(values.view().codes.data);
    WeightView view = values.view();
    view.codes.data = memory.data();
    return {view, memory};
  }
  MatrixView draw_bias(int64_t size) { return draw(kF32Format, 1, size).view.codes; }
  static TensorView tensor(const Matrix& matrix) {
    const MatrixView& values = matrix.view.codes;
    return {matrix.memory.data(), values.dtype, 2, {values.rows, values.columns}};
  }

  void set_weights() {
    const LayerDescription& d = description_;
    MOE_CHECK(layer_->set_router(draw(*d.formats.router, d.experts, d.hidden).view, draw_bias(d.experts)).ok());
    if (const int64_t rows = d.shared_gate_rows(); rows > 0) {
      MOE_CHECK(layer_->set_shared_gate(draw(*d.formats.shared_gate, rows, d.hidden).view, draw_bias(rows)).ok());
    }
    for (int64_t expert = 0; expert < d.all_experts(); ++expert) {
      ExpertViews views;
      const ExpertFormats formats = formats_of(expert);
      views.up = draw(*formats.up, d.intermediate, d.hidden).view;
      views.down = draw(*formats.down, d.hidden, d.intermediate).view;
      views.up_bias = draw_bias(d.intermediate);
      views.down_bias = draw_bias(d.hidden);
      if (is_gated(d.activation)) {
        views.gate = draw(*formats.gate, d.intermediate, d.hidden).view;
        views.gate_bias = draw_bias(d.intermediate);
      }
      if (d.multiplier) views.multiplier = draw(*formats.multiplier, d.intermediate, d.hidden).view;
      MOE_CHECK(layer_->set_expert(expert, views).ok());
    }
  }

  ExpertFormats formats_of(int64_t expert) const {
    const std::vector<ExpertGroup> groups = description_.groups();
    return groups.back().experts.contains(expert) ? groups.back().formats : groups.front().formats;
  }

  // In one call, in two that part anywhere, and with each stage in a call of its own.
  void check(Stages stages, const LayerForward& forward) {
    MOE_CHECK(layer_->run(stages, forward).ok());
    const std::vector<char> expected = output();
    run_other();
    MOE_CHECK(output() != expected);
    for (size_t i = 1; i < stages.size(); ++i) {
      MOE_CHECK(kept_output({stages.first(i), stages.subspan(i)}, forward) == expected);
    }
    std::vector<Stages> single;
    for (size_t i = 0; i < stages.size(); ++i) single.push_back(stages.subspan(i, 1));
    MOE_CHECK(kept_output(single, forward) == expected);
  }

  // Of calls over one state, before each of which another forward has used the device's workspace.
  std::vector<char> kept_output(const std::vector<Stages>& lists, LayerForward forward) {
    const std::unique_ptr<ForwardState> state = layer_->new_state();
    forward.state = state.get();
    for (const Stages stages : lists) {
      run_other();
      MOE_CHECK(layer_->run(stages, forward).ok());
    }
    return output();
  }

  void run_other() { MOE_CHECK(layer_->run(kForwardStages, {.x = tensor(other_x_), .y = tensor(y_)}).ok()); }

  std::vector<char> output() const {
    MOE_CHECK(backend_.synchronize().ok());
    return y_.memory.read();
  }

  Backend& backend_;
  LayerDescription description_;
  Random random_{11};
  std::deque<DeviceMemory> memory_;
  const Matrix x_, other_x_, y_, ids_, weights_;
  std::unique_ptr<Layer> layer_;
};

// Layers that between them have every part of a state.
inline std::vector<LayerDescription> kept_layers() {
  LayerDescription plain;
  plain.hidden = 40;
  plain.intermediate = 24;
  plain.experts = 5;
  plain.bank = {0, 5};
  plain.gating.top_k = 2;

  LayerDescription shared = plain;
  shared.shared_experts = 2;
  shared.shared_gate = SharedGate::softmax;
  shared.multiplier = true;
  shared.formats.gate = &kBF16Format;

  LayerDescription apart = plain;
  apart.shared_experts = 1;
  apart.formats.shared = ExpertFormats{.gate = &kBF16Format, .up = &kF16Format, .down = &kBF16Format};

  LayerDescription bank = plain;
  bank.bank = {2, 3};
  bank.shared_gate = SharedGate::softmax;

  LayerDescription weighed = plain;
  weighed.weight_on = WeightPlace::input;
  weighed.output_activation = OutputActivation::softmax;
  return {plain, shared, apart, bank, weighed};
}

}  // namespace moe::test
