// How a description names its fields to generic code, such as the binding's reader and the list that the addon exports.
//
// A description is an aggregate with a template `fields(f)` that calls, for every member in order,
//   f.input(name, member, pattern), f.optional_input(...)    a tensor that the operator reads,
//   f.output(name, member, pattern), f.optional_output(...)  a tensor that it overwrites,
//   f.updated(name, member, pattern)                         a tensor that it reads and then writes,
//   f.value(name, member)                                    anything else; its type says what.
// Where a description has a member `accumulate` that is true, the operator adds to its outputs instead of overwriting
// them. It names that member before them.
// Names are those of JavaScript; patterns (see tensor_pattern.h) say what the tensors have to be. An operator's
// description also has its name, kName, and a check() if a wrong call could make it access memory out of bounds in
// spite of the patterns.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/formats/weight_view.h"
#include "core/operators/tensor_pattern.h"
#include "core/status.h"
#include "core/tensor_view.h"

namespace moe {

class PackedExperts;

// A failure with this message unless a relation between the numbers of a description holds.
inline Status expect_sizes(bool holds, const char* message) {
  return holds ? Status() : Status{Code::shape_mismatch, message};
}

// Counts the fields that a description names.
struct FieldCount {
  int count = 0;

  constexpr void input(const char*, auto, const TensorPattern&) { ++count; }
  constexpr void optional_input(const char*, auto, const TensorPattern&) { ++count; }
  constexpr void output(const char*, auto, const TensorPattern&) { ++count; }
  constexpr void optional_output(const char*, auto, const TensorPattern&) { ++count; }
  constexpr void updated(const char*, auto, const TensorPattern&) { ++count; }
  constexpr void value(const char*, auto) { ++count; }
};

template <class T>
concept Description = requires(FieldCount& f) { T::fields(f); };

template <class T>
constexpr int named_fields() {
  FieldCount fields;
  T::fields(fields);
  return fields.count;
}

struct AnyMember {
  template <class T>
  operator T() const;
};

// Counts an aggregate's members: the most values it can be initialised from.
template <class T, class... Members>
constexpr int members() {
  if constexpr (requires { T{Members{}..., AnyMember{}}; }) {
    return members<T, Members..., AnyMember>();
  } else {
    return sizeof...(Members);
  }
}

// Whether fields() names every member.
template <Description T>
constexpr bool kNamesAllMembers = named_fields<T>() == members<T>();

// What JavaScript passes for a field of type T.
template <class T>
constexpr const char* value_kind() {
  if constexpr (std::is_same_v<T, bool>) {
    return "boolean";
  } else if constexpr (std::is_enum_v<T>) {
    return "choice";
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return "seed";
  } else if constexpr (std::is_integral_v<T>) {
    return "integer";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "number";
  } else if constexpr (std::is_same_v<T, MatrixView>) {
    return "matrix";
  } else if constexpr (std::is_same_v<T, const PackedExperts*>) {
    return "packed_experts";
  } else if constexpr (std::is_same_v<T, WeightView>) {
    return "weight";
  } else if constexpr (std::is_same_v<T, const WeightFormat*>) {
    return "format";
  } else {
    static_assert(Description<T>);
    return "rule";
  }
}

}  // namespace moe
