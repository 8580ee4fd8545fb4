// Checks an operator's description: that its tensors go together, and what else keeps it within their memory.
#pragma once

#include <string>

#include "core/operators/fields.h"
#include "core/status.h"

namespace moe {

// "[3, 4] f32"
inline std::string tensor_text(const TensorView& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.rank; ++i) text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  return text + "] " + info(tensor.dtype).name;
}

// Whether a tensor is what its pattern says, with the sizes and dtypes that `match` knows already.
inline Status check_tensor(TensorMatch& match, const std::string& name, const TensorView& tensor,
                           const TensorPattern& pattern) {
  if (match.fits(pattern, tensor)) return {};
  return {Code::shape_mismatch,
          name + ": expected " + pattern.text + " that goes with the other sizes, got " + tensor_text(tensor)};
}

// Compares the tensors of a description with their patterns.
template <Description T>
class TensorCheck {
 public:
  explicit TensorCheck(const T& description) : description_(description) { T::fields(*this); }
  const Status& status() const { return status_; }

  void input(const char* name, TensorView T::*member, const TensorPattern& pattern) {
    if (!status_.ok()) return;
    status_ = check_tensor(match_, std::string(T::kName) + "." + name, description_.*member, pattern);
  }
  void optional_input(const char* name, TensorView T::*member, const TensorPattern& pattern) {
    if (!(description_.*member).absent()) input(name, member, pattern);
  }
  void output(const char* name, TensorView T::*member, const TensorPattern& pattern) { input(name, member, pattern); }
  void optional_output(const char* name, TensorView T::*member, const TensorPattern& pattern) {
    optional_input(name, member, pattern);
  }
  void updated(const char* name, TensorView T::*member, const TensorPattern& pattern) { input(name, member, pattern); }
  void value(const char*, auto) {}

 private:
  const T& description_;
  TensorMatch match_;
  Status status_;
};

template <Description T>
Status check_description(const T& description) {
  MOE_TRY(TensorCheck<T>(description).status());
  if constexpr (requires { description.check(); }) return description.check();
  return {};
}

// Whether a description writes any element. An operator that writes none need not run; its sizes, which no memory
// stands behind, may be more than any loop could count.
template <Description T>
class HasOutput {
 public:
  explicit HasOutput(const T& description) : description_(description) { T::fields(*this); }
  explicit operator bool() const { return found_; }

  void input(const char*, TensorView T::*, const TensorPattern&) {}
  void optional_input(const char*, TensorView T::*, const TensorPattern&) {}
  void output(const char*, TensorView T::*member, const TensorPattern&) {
    const TensorView& tensor = description_.*member;
    found_ = found_ || (!tensor.absent() && tensor.size() > 0);
  }
  void optional_output(const char* name, TensorView T::*member, const TensorPattern& pattern) {
    output(name, member, pattern);
  }
  void updated(const char* name, TensorView T::*member, const TensorPattern& pattern) { output(name, member, pattern); }
  void value(const char*, auto) {}

 private:
  const T& description_;
  bool found_ = false;
};

}  // namespace moe
