// Moves rows to the experts, through them and back; see lib/core/operators/experts.ts.
#pragma once

#include <cstdint>

#include "core/enum.h"
#include "core/formats/weight_format.h"
#include "core/operators/fields.h"
#include "core/status.h"
#include "core/tensor_view.h"

namespace moe {

MOE_ENUM(Activation, none, relu, relu2, gelu, gelu_tanh, silu, swiglu, geglu, geglu_tanh, swiglu_clamped)

// Whether the product has a gate half and an up half.
constexpr bool is_gated(Activation activation) { return activation >= Activation::swiglu; }

// The part of a gated activation that a product computes: all of it or, if gate and up are separate products, the
// activated gate or the factor that multiplies it.
enum class ActivationPart : uint8_t { whole, gate, up };

// Parameters of swiglu_clamped.
struct Clamp {
  float alpha = 1.702f;
  float limit = 7.0f;
  float offset = 1.0f;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("alpha", &Clamp::alpha);
    f.value("limit", &Clamp::limit);
    f.value("offset", &Clamp::offset);
  }
};

// One product of all experts: y = activation(W x), W [experts, rows, columns] stored in `format`. If the product is
// gated, rows counts both gate and up.
struct ExpertProduct {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  const WeightFormat* format = &kF32Format;
  Activation activation = Activation::none;
  Clamp clamp = {};
  ActivationPart part = ActivationPart::whole;

  bool gated() const { return part == ActivationPart::whole && is_gated(activation); }
  int64_t outputs() const { return gated() ? rows / 2 : rows; }
};

struct Permute {
  static constexpr const char* kName = "permute";

  TensorView x;             // [T, H] float
  TensorView token_of_row;  // [R] i32
  TensorView rows;          // [R, H] like x

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &Permute::x);
    f.input("tokenOfRow", &Permute::token_of_row);
    f.output("rows", &Permute::rows);
  }
};

struct Unpermute {
  static constexpr const char* kName = "unpermute";

  TensorView rows;         // [R, H] float
  TensorView row_of_slot;  // [T, k] i32
  TensorView slots;        // [T, k, H] like rows

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("rows", &Unpermute::rows);
    f.input("rowOfSlot", &Unpermute::row_of_slot);
    f.output("slots", &Unpermute::slots);
  }
};

struct GroupedGemm {
  static constexpr const char* kName = "groupedGemm";

  TensorView x;                           // [R or T, K] float
  const PackedExperts* weight = nullptr;  // experts, rows = N, columns = K, activation
  TensorView bias;                        // [E, N] float, or absent
  TensorView offsets;                     // [E + 1] i32
  TensorView token_of_row;                // [R] i32, or absent
  TensorView y;                           // [R, outputs] float

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("x", &GroupedGemm::x);
    f.value("weight", &GroupedGemm::weight);
    f.optional_input("bias", &GroupedGemm::bias);
    f.input("offsets", &GroupedGemm::offsets);
    f.optional_input("tokenOfRow", &GroupedGemm::token_of_row);
    f.output("y", &GroupedGemm::y);
  }
};

struct Combine {
  static constexpr const char* kName = "combine";

  TensorView rows;         // [R, H] float
  TensorView row_of_slot;  // [T, k] i32
  TensorView weights;      // [T, k] f32
  TensorView y;            // [T, H] float

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("rows", &Combine::rows);
    f.input("rowOfSlot", &Combine::row_of_slot);
    f.input("weights", &Combine::weights);
    f.output("y", &Combine::y);
  }
};

struct CopyMatrix {
  static constexpr const char* kName = "copyMatrix";

  MatrixView source;  // [rows, columns] float
  TensorView target;  // likewise

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.value("source", &CopyMatrix::source);
    f.output("target", &CopyMatrix::target);
  }

  Status check() const {
    if (target.size() == source.rows * source.columns) return {};
    return {Code::internal, "copyMatrix: target: expected a tensor of the matrix's size"};
  }
};

}  // namespace moe
