// Steps of optimisers over flat tensors; see lib/core/operators/optimizers.ts.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "core/operators/fields.h"
#include "core/tensor_view.h"

namespace moe {

struct SumOfSquares {
  static constexpr const char* kName = "sumOfSquares";

  TensorView values;
  TensorView total;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &SumOfSquares::values, "[N] f32");
    f.updated("total", &SumOfSquares::total, "[1] f32");
  }
};

// Values whose squares are added one after another, in float64, before their sums are.
constexpr int64_t kSquaresBlock = 4096;

// What multiplies gradients so that the norm of all of them is at most `most`, given its square.
MOE_HOST_DEVICE inline float clip_factor(const float* squared_norm, double most) {
  if (squared_norm == nullptr) return 1.0f;
  const float factor = static_cast<float>(most) / (sqrtf(*squared_norm) + 1e-6f);
  // Not fminf: a norm that is not a number must not pass for a small one.
  return factor > 1.0f ? 1.0f : factor;
}

struct AdamW {
  static constexpr const char* kName = "adamW";

  TensorView parameter;
  TensorView gradient;
  TensorView mean;
  TensorView square;
  TensorView squared_norm;
  TensorView copy;
  double learning_rate = 0;
  double beta1 = 0;
  double beta2 = 0;
  double epsilon = 0;
  double weight_decay = 0;
  double max_norm = 0;
  int64_t step = 1;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.updated("parameter", &AdamW::parameter, "[N] f32");
    f.input("gradient", &AdamW::gradient, "[N] f32");
    f.updated("mean", &AdamW::mean, "[N] f32");
    f.updated("square", &AdamW::square, "[N] f32");
    f.optional_input("squaredNorm", &AdamW::squared_norm, "[1] f32");
    f.optional_output("copy", &AdamW::copy, "[N] float");
    f.value("learningRate", &AdamW::learning_rate);
    f.value("beta1", &AdamW::beta1);
    f.value("beta2", &AdamW::beta2);
    f.value("epsilon", &AdamW::epsilon);
    f.value("weightDecay", &AdamW::weight_decay);
    f.value("maxNorm", &AdamW::max_norm);
    f.value("step", &AdamW::step);
  }
};

// The constants of one AdamW step, in float32.
struct AdamWRule {
  float decay, beta1, beta2;
  float rest1, rest2;  // 1 - beta, taken in float64: of 0.999 in float32 it would be off by 1.3e-5
  float rate, root_correction, epsilon;

  explicit AdamWRule(const AdamW& p)
      : decay(static_cast<float>(1 - p.learning_rate * p.weight_decay)),
        beta1(static_cast<float>(p.beta1)),
        beta2(static_cast<float>(p.beta2)),
        rest1(static_cast<float>(1 - p.beta1)),
        rest2(static_cast<float>(1 - p.beta2)),
        rate(static_cast<float>(p.learning_rate / (1 - std::pow(p.beta1, static_cast<double>(p.step))))),
        root_correction(static_cast<float>(std::sqrt(1 - std::pow(p.beta2, static_cast<double>(p.step))))),
        epsilon(static_cast<float>(p.epsilon)) {}

  MOE_HOST_DEVICE void apply(float gradient, float& parameter, float& mean, float& square) const {
    mean = beta1 * mean + rest1 * gradient;
    square = beta2 * square + rest2 * gradient * gradient;
    parameter = parameter * decay - rate * mean / (sqrtf(square) / root_correction + epsilon);
  }
};

struct Sgd {
  static constexpr const char* kName = "sgd";

  TensorView parameter;
  TensorView gradient;
  TensorView velocity;  // no elements without momentum
  TensorView squared_norm;
  TensorView copy;
  double learning_rate = 0;
  double momentum = 0;
  double weight_decay = 0;
  double max_norm = 0;
  bool nesterov = false;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.updated("parameter", &Sgd::parameter, "[N] f32");
    f.input("gradient", &Sgd::gradient, "[N] f32");
    f.updated("velocity", &Sgd::velocity, "[V] f32");
    f.optional_input("squaredNorm", &Sgd::squared_norm, "[1] f32");
    f.optional_output("copy", &Sgd::copy, "[N] float");
    f.value("learningRate", &Sgd::learning_rate);
    f.value("momentum", &Sgd::momentum);
    f.value("weightDecay", &Sgd::weight_decay);
    f.value("maxNorm", &Sgd::max_norm);
    f.value("nesterov", &Sgd::nesterov);
  }

  bool has_velocity() const { return velocity.shape[0] > 0; }

  Status check() const {
    return expect_sizes(!has_velocity() || velocity.shape[0] == parameter.shape[0],
                        "sgd: expected as many velocities as parameters, or none");
  }
};

// The constants of one SGD step, in float32.
struct SgdRule {
  float rate, momentum, decay;
  bool nesterov;

  explicit SgdRule(const Sgd& p)
      : rate(static_cast<float>(p.learning_rate)),
        momentum(static_cast<float>(p.momentum)),
        decay(static_cast<float>(p.weight_decay)),
        nesterov(p.nesterov) {}

  MOE_HOST_DEVICE void apply(float gradient, float& parameter, float* velocity) const {
    gradient += decay * parameter;
    if (velocity != nullptr) {
      *velocity = momentum * *velocity + gradient;
      gradient = nesterov ? gradient + momentum * *velocity : *velocity;
    }
    parameter -= rate * gradient;
  }
};

}  // namespace moe
