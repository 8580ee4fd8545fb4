// Activations on the results of a tile. See kernels.h here.

// The smallest x for which exp(x) is a normal number.
constexpr float kLeastExponent = -87.3f;
// The largest for which times_exp2() does not overflow.
constexpr float kLargestExponent = 88.3f;

// e^x for x in kLeastExponent .. kLargestExponent, within 2 units in the last place; Cephes' polynomial.
inline Vector exp_in_range(Vector x) {
  const Vector n = (x * Vector::broadcast(1.44269504088896341f)).round();
  Vector r = Vector::fma(n, Vector::broadcast(-0.693359375f), x);
  r = Vector::fma(n, Vector::broadcast(2.12194440e-4f), r);
  Vector p = Vector::broadcast(1.9875691500e-4f);
  p = Vector::fma(p, r, Vector::broadcast(1.3981999507e-3f));
  p = Vector::fma(p, r, Vector::broadcast(8.3334519073e-3f));
  p = Vector::fma(p, r, Vector::broadcast(4.1665795894e-2f));
  p = Vector::fma(p, r, Vector::broadcast(1.6666665459e-1f));
  p = Vector::fma(p, r, Vector::broadcast(5.0000001201e-1f));
  p = Vector::fma(p, r * r, r + Vector::broadcast(1.0f));
  return p.times_exp2(n);
}

// e^x, from e^kLeastExponent to e^kLargestExponent. NaN stays NaN.
inline Vector exp(Vector x) {
  return exp_in_range(
      Vector::max(Vector::broadcast(kLeastExponent), Vector::min(Vector::broadcast(kLargestExponent), x)));
}

// 1 + e^x as a divisor: infinity beyond kLargestExponent, where exp() would leave a part of a large dividend. NaN stays
// NaN.
inline Vector one_plus_exp(Vector x) {
  const Vector left = Vector::broadcast(kLargestExponent) - x;
  return Vector::select_negative(left, Vector::broadcast(INFINITY), Vector::broadcast(1.0f) + exp(x));
}

// tanh(x), by Cephes' polynomial where 1 - 2 / (e^2x + 1) would lose digits.
inline Vector tanh(Vector x) {
  const Vector size = x.abs(), square = x * x, one = Vector::broadcast(1.0f);
  Vector p = Vector::broadcast(-5.70498872745e-3f);
  p = Vector::fma(p, square, Vector::broadcast(2.06390887954e-2f));
  p = Vector::fma(p, square, Vector::broadcast(-5.37397155531e-2f));
  p = Vector::fma(p, square, Vector::broadcast(1.33314422036e-1f));
  p = Vector::fma(p, square, Vector::broadcast(-3.33332819422e-1f));
  const Vector near = Vector::fma(p * square, x, x);
  const Vector far = one - Vector::broadcast(2.0f) / (exp(size + size) + one);
  const Vector signed_far = Vector::select_negative(x, Vector::zero() - far, far);
  return Vector::select_negative(size - Vector::broadcast(0.625f), near, signed_far);
}

struct Identity {
  static Vector apply(Vector x) { return x; }
};

struct Relu {
  static Vector apply(Vector x) { return Vector::max(Vector::zero(), x); }
};

struct Relu2 {
  static Vector apply(Vector x) { return Relu::apply(x) * Relu::apply(x); }
};

// x / divisor(x); the share of x that it is, is 1 / divisor(x).
struct Silu {
  static Vector divisor(Vector x) { return one_plus_exp(Vector::zero() - x); }
  static Vector apply(Vector x) { return x / divisor(x); }
};

// x/2 (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3).
struct GeluTanh {
  static Vector divisor(Vector x) {
    const Vector u = Vector::fma(x * x * x, Vector::broadcast(0.044715f), x);
    return one_plus_exp(u * Vector::broadcast(-1.5957691216057308f));
  }
  static Vector apply(Vector x) { return x / divisor(x); }
};

// x/2 (1 + erf(x / sqrt 2)), by erfc(z) = poly(1 / (1 + p z)) e^(-z^2) of Abramowitz and Stegun 7.1.26, with an error
// below 1.5e-7.
struct Gelu {
  // e^(-z^2)
  static Vector bell(Vector x) {
    const Vector z = x.abs() * Vector::broadcast(0.70710678118654752f);
    return exp(Vector::zero() - z * z);
  }
  static Vector share(Vector x, Vector bell) {
    const Vector z = x.abs() * Vector::broadcast(0.70710678118654752f);
    const Vector t = Vector::broadcast(1.0f) / Vector::fma(Vector::broadcast(0.3275911f), z, Vector::broadcast(1.0f));
    Vector p = Vector::broadcast(1.061405429f);
    p = Vector::fma(p, t, Vector::broadcast(-1.453152027f));
    p = Vector::fma(p, t, Vector::broadcast(1.421413741f));
    p = Vector::fma(p, t, Vector::broadcast(-0.284496736f));
    p = Vector::fma(p, t, Vector::broadcast(0.254829592f));
    const Vector half_erfc = Vector::broadcast(0.5f) * p * t * bell;
    return Vector::select_negative(x, half_erfc, Vector::broadcast(1.0f) - half_erfc);
  }
  static Vector apply(Vector x) { return x * share(x, bell(x)); }
};

inline Vector biased(Vector sum, const float* bias) { return bias == nullptr ? sum : sum + Vector::load(bias); }

template <class Function>
inline void activate_each(const float* bias, float* c, int rows, Function&& function) {
  for (int r = 0; r < rows; ++r, c += kPanelColumns) {
    for (int j = 0; j < kPanelColumns; j += kWidth) {
      function(biased(Vector::load(c + j), bias == nullptr ? nullptr : bias + j)).store(c + j);
    }
  }
}

template <class Function>
inline void activate_plain(const float* bias, float* c, int rows) {
  activate_each(bias, c, rows, [](Vector x) { return Function::apply(x); });
}

// act(gate) * up.
template <class Function>
struct Product {
  static Vector apply(Vector gate, Vector up, const Clamp&) { return Function::apply(gate) * up; }
};

// The two halves of swiglu_clamped; swiglu_clamped_after has the same `up`.
struct ClampedSilu {
  static Vector limited(Vector gate, const Clamp& clamp) { return Vector::min(Vector::broadcast(clamp.limit), gate); }
  static Vector divisor(Vector limited, const Clamp& clamp) {
    return one_plus_exp(limited * Vector::broadcast(-clamp.alpha));
  }
};
inline Vector clamped_silu(Vector gate, const Clamp& clamp) {
  const Vector g = ClampedSilu::limited(gate, clamp);
  return g / ClampedSilu::divisor(g, clamp);
}
inline Vector silu_clamped(Vector gate, const Clamp& clamp) {
  return Vector::min(Vector::broadcast(clamp.limit), gate / ClampedSilu::divisor(gate, clamp));
}
inline Vector clamped_up(Vector up, const Clamp& clamp) {
  const Vector limit = Vector::broadcast(clamp.up_limit);
  return Vector::max(Vector::zero() - limit, Vector::min(limit, up)) + Vector::broadcast(clamp.offset);
}

// The two halves of situ.
inline Vector softly_limited(Vector x, float limit) {
  if (limit == INFINITY) return x;
  return Vector::broadcast(limit) * tanh(x * Vector::broadcast(1.0f / limit));
}
inline Vector situ_gate(Vector gate, const Clamp& clamp) {
  return softly_limited(gate, clamp.limit) / ClampedSilu::divisor(gate, clamp);
}
inline Vector situ_up(Vector up, const Clamp& clamp) {
  return softly_limited(up, clamp.up_limit) + Vector::broadcast(clamp.offset);
}

struct ClampedSwiglu {
  static Vector apply(Vector gate, Vector up, const Clamp& clamp) {
    return clamped_silu(gate, clamp) * clamped_up(up, clamp);
  }
};

struct SwigluClampedAfter {
  static Vector apply(Vector gate, Vector up, const Clamp& clamp) {
    return silu_clamped(gate, clamp) * clamped_up(up, clamp);
  }
};

struct Situ {
  static Vector apply(Vector gate, Vector up, const Clamp& clamp) {
    return situ_gate(gate, clamp) * situ_up(up, clamp);
  }
};

// The activation of an ungated product, or of a separate gate.
inline void activate_values(Activation activation, const Clamp& clamp, const float* bias, float* c, int rows) {
  switch (activation) {
    case Activation::none:
      if (bias != nullptr) activate_plain<Identity>(bias, c, rows);
      return;
    case Activation::relu:
    case Activation::reglu: return activate_plain<Relu>(bias, c, rows);
    case Activation::relu2: return activate_plain<Relu2>(bias, c, rows);
    case Activation::gelu:
    case Activation::geglu: return activate_plain<Gelu>(bias, c, rows);
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return activate_plain<GeluTanh>(bias, c, rows);
    case Activation::silu:
    case Activation::swiglu: return activate_plain<Silu>(bias, c, rows);
    case Activation::swiglu_clamped:
      return activate_each(bias, c, rows, [&clamp](Vector gate) { return clamped_silu(gate, clamp); });
    case Activation::swiglu_clamped_after:
      return activate_each(bias, c, rows, [&clamp](Vector gate) { return silu_clamped(gate, clamp); });
    case Activation::situ:
      return activate_each(bias, c, rows, [&clamp](Vector gate) { return situ_gate(gate, clamp); });
  }
}

// The multiplier that multiplies a separate activated gate.
inline void activate_up(Activation activation, const Clamp& clamp, const float* bias, float* c, int rows) {
  if (!is_clamped(activation)) return activate_values(Activation::none, clamp, bias, c, rows);
  if (activation == Activation::situ) {
    return activate_each(bias, c, rows, [&clamp](Vector up) { return situ_up(up, clamp); });
  }
  activate_each(bias, c, rows, [&clamp](Vector up) { return clamped_up(up, clamp); });
}
