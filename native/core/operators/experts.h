// Moves rows to the experts, through them and back; see lib/core/operators/experts.ts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/enum.h"
#include "core/formats/token_format.h"
#include "core/formats/weight_view.h"
#include "core/operators/fields.h"
#include "core/status.h"
#include "core/tensor_view.h"

namespace moe {

MOE_ENUM(Activation, none, relu, relu2, gelu, gelu_tanh, silu, swiglu, geglu, geglu_tanh, reglu, swiglu_clamped,
         swiglu_clamped_after, situ)

// Whether the product has a gate half and an up half.
constexpr bool is_gated(Activation activation) { return activation >= Activation::swiglu; }

// The part of a gated activation that a product computes: all of it or, if gate and up are separate products, the
// activated gate or the multiplier that multiplies it.
enum class ActivationPart : uint8_t { whole, gate, up };

// Whether an activation reads a clamp.
MOE_HOST_DEVICE constexpr bool is_clamped(Activation activation) { return activation >= Activation::swiglu_clamped; }

// Parameters of clamped activations; infinity is no limit. See lib/core/layer/activation.ts.
struct Clamp {
  float alpha = 1.702f;
  float limit = 7.0f;
  float up_limit = 7.0f;
  float offset = 1.0f;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("alpha", &Clamp::alpha);
    f.value("limit", &Clamp::limit);
    f.value("upLimit", &Clamp::up_limit);
    f.value("offset", &Clamp::offset);
  }
};

// The clamps of a product's experts: the shared ones, which come last, may have another than the others.
struct ExpertClamps {
  Clamp routed = {};
  Clamp shared = {};
  int32_t first_shared = INT32_MAX;

  MOE_HOST_DEVICE constexpr const Clamp& of(int64_t expert) const { return expert < first_shared ? routed : shared; }
};

// One product of all experts: y = activation(W x), W [experts, rows, columns] stored in `format`. If the product is
// gated, rows counts both gate and up.
struct ExpertProduct {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  const WeightFormat* format = &kF32Format;
  Activation activation = Activation::none;
  ExpertClamps clamps = {};
  ActivationPart part = ActivationPart::whole;
  TokenFormat tokens = TokenFormat::none;

  bool gated() const { return part == ActivationPart::whole && is_gated(activation); }
  int64_t outputs() const { return gated() ? rows / 2 : rows; }
  // What it rounds its rows of x to.
  TokenScheme token_scheme() const { return moe::token_scheme(tokens, *format); }

  // Checks that the sizes are sizes, and that no number of bytes overflows.
  Status check() const {
    MOE_TRY(
        expect_sizes(experts >= 0 && experts < INT32_MAX && rows >= 0 && columns >= 0 && (!gated() || rows % 2 == 0),
                     "packed experts: expected sizes, and an even number of rows for gate and up"));
    double elements = 1;
    for (const int64_t size : {experts, rows, columns}) elements *= std::max(1.0, static_cast<double>(size));
    if (elements <= 0x1p50) return {};
    return {Code::out_of_memory, "packed experts: no memory for more than 2^50 elements"};
  }
  // Checks that these can be packed as expert `expert`: `up` with a gated product alone, and neither too large.
  Status check_expert(int64_t expert, const WeightView& weight, const WeightView& up) const {
    return expect_sizes(expert >= 0 && expert < experts && gated() != up.absent() &&
                            weight.within(outputs(), columns) && up.within(outputs(), columns),
                        "setExpert: expected an expert's index, and weights that fit the packed experts");
  }
};

struct Permute {
  static constexpr const char* kName = "permute";

  TensorView x;
  TensorView token_of_row;
  TensorView rows;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &Permute::x, "[T, H] D");
    f.input("tokenOfRow", &Permute::token_of_row, "[R] i32");
    f.output("rows", &Permute::rows, "[R, H] D");
  }
};

struct Unpermute {
  static constexpr const char* kName = "unpermute";

  TensorView rows;
  TensorView row_of_slot;
  TensorView slots;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("rows", &Unpermute::rows, "[R, H] D");
    f.input("rowOfSlot", &Unpermute::row_of_slot, "[T, k] i32");
    f.output("slots", &Unpermute::slots, "[T, k, H] D");
  }
};

struct GroupedGemm {
  static constexpr const char* kName = "groupedGemm";

  TensorView x;
  const PackedExperts* weight = nullptr;  // experts, rows = N, columns = K, activation
  TensorView bias;
  TensorView offsets;
  TensorView token_of_row;
  TensorView y;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &GroupedGemm::x, "[M, K] float");
    f.value("weight", &GroupedGemm::weight);
    f.optional_input("bias", &GroupedGemm::bias, "[E, N] float");
    f.input("offsets", &GroupedGemm::offsets, "[E+1] i32");
    f.optional_input("tokenOfRow", &GroupedGemm::token_of_row, "[R] i32");
    f.output("y", &GroupedGemm::y, "[R, O] float");
  }

  Status check() const;  // in core/backend.h, which knows packed experts
};

struct Combine {
  static constexpr const char* kName = "combine";

  TensorView rows;
  TensorView row_of_slot;
  TensorView weights;
  TensorView residual;
  TensorView y;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("rows", &Combine::rows, "[R, H] float");
    f.input("rowOfSlot", &Combine::row_of_slot, "[T, k] i32");
    f.input("weights", &Combine::weights, "[T, k] f32");
    f.optional_input("residual", &Combine::residual, "[T, H] float");
    f.output("y", &Combine::y, "[T, H] float");
  }
};

struct CopyMatrix {
  static constexpr const char* kName = "copyMatrix";

  MatrixView source;  // [rows, columns] float
  TensorView target;  // [rows, columns]

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("source", &CopyMatrix::source);
    f.output("target", &CopyMatrix::target, "[...] float");
  }

  Status check() const {
    return expect_sizes(source.has_size(target.size()) && is_float(source.dtype),
                        "copyMatrix: target: expected the size of the matrix, and a matrix of floats");
  }
};

}  // namespace moe
