// Activations of rows outside of products, and their gradients. See kernels.h here.

// The activation of a gate, or of a value without one.
template <Activation kActivation>
inline Vector activated_gate(Vector x, const Clamp& clamp) {
  switch (kActivation) {
    case Activation::none: return Identity::apply(x);
    case Activation::relu:
    case Activation::reglu: return Relu::apply(x);
    case Activation::relu2: return Relu2::apply(x);
    case Activation::gelu:
    case Activation::geglu: return Gelu::apply(x);
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return GeluTanh::apply(x);
    case Activation::silu:
    case Activation::swiglu: return Silu::apply(x);
    case Activation::swiglu_clamped: return clamped_silu(x, clamp);
    case Activation::swiglu_clamped_after: return silu_clamped(x, clamp);
    default: return situ_gate(x, clamp);
  }
}

// What multiplies an activated gate.
template <Activation kActivation>
inline Vector activated_up(Vector up, const Clamp& clamp) {
  if (!is_clamped(kActivation)) return up;
  return kActivation == Activation::situ ? situ_up(up, clamp) : clamped_up(up, clamp);
}

void activate_columns(Activation activation, const Clamp& clamp, int64_t count, ActivationColumns& columns) {
  dispatch_activation(activation, [&](auto constant) {
    constexpr Activation kActivation = constant;
    for (int64_t i = 0; i < count; i += kWidth) {
      Vector value = activated_gate<kActivation>(Vector::load(columns.gate + i), clamp);
      if constexpr (is_gated(kActivation)) {
        value = value * activated_up<kActivation>(Vector::load(columns.up + i), clamp);
      }
      (value * Vector::load(columns.multiplier + i)).store(columns.inner + i);
    }
  });
}

// What derivatives of gates are made of, as in ActivatedGate.
struct ActivatedGates {
  alignas(64) float values[ActivationColumns::kMost];
  alignas(64) float shares[ActivationColumns::kMost];
  alignas(64) float extras[ActivationColumns::kMost];
};

template <Activation kActivation>
inline void activate_gates(const float* gates, const Clamp& clamp, int64_t count, ActivatedGates& at) {
  const Vector one = Vector::broadcast(1.0f);
  for (int64_t i = 0; i < count; i += kWidth) {
    const Vector gate = Vector::load(gates + i);
    activated_gate<kActivation>(gate, clamp).store(at.values + i);
    Vector share = Vector::zero(), extra = Vector::zero();
    if constexpr (kActivation == Activation::gelu || kActivation == Activation::geglu) {
      const Vector bell = Gelu::bell(gate);
      share = Gelu::share(gate, bell);
      extra = bell * Vector::broadcast(0.3989422804f);
    } else if constexpr (kActivation == Activation::gelu_tanh || kActivation == Activation::geglu_tanh) {
      share = one / GeluTanh::divisor(gate);
    } else if constexpr (kActivation == Activation::silu || kActivation == Activation::swiglu) {
      share = one / Silu::divisor(gate);
    } else if constexpr (kActivation == Activation::swiglu_clamped) {
      share = one / ClampedSilu::divisor(ClampedSilu::limited(gate, clamp), clamp);
    } else if constexpr (is_clamped(kActivation)) {
      share = one / ClampedSilu::divisor(gate, clamp);
      if (kActivation == Activation::situ) extra = softly_limited(gate, clamp.limit);
    }
    share.store(at.shares + i);
    extra.store(at.extras + i);
  }
}

void differentiate_columns(Activation activation, const Clamp& clamp, int64_t count, ActivationColumns& columns) {
  dispatch_activation(activation, [&](auto constant) {
    constexpr Activation kActivation = constant;
    const Clamp limits = clamp;  // a copy, which no store changes
    ActivatedGates at;
    activate_gates<kActivation>(columns.gate, clamp, count, at);
    alignas(64) float soft_ups[ActivationColumns::kMost];
    if constexpr (kActivation == Activation::situ) {
      for (int64_t i = 0; i < count; i += kWidth) {
        softly_limited(Vector::load(columns.up + i), clamp.up_limit).store(soft_ups + i);
      }
    }
    // Without branches and calls, so the compiler makes vectors of it.
    for (int64_t i = 0; i < count; ++i) {
      const ActivatedGate gate{at.values[i], at.shares[i], at.extras[i]};
      const float soft_up = kActivation == Activation::situ ? soft_ups[i] : 0.0f;
      const ActivationGradient gradient = activation_gradient(kActivation, limits, columns.gate[i], gate, columns.up[i],
                                                              soft_up, columns.multiplier[i], columns.d_inner[i]);
      columns.inner[i] = gradient.inner;
      columns.d_gate[i] = gradient.gate;
      columns.d_up[i] = gradient.up;
      columns.d_multiplier[i] = gradient.multiplier;
    }
  });
}
