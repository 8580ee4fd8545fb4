// Stackful contexts: a switch saves the callee-saved registers and continues on another stack, without system calls.
#pragma once

#include <cstddef>

#include "simt/sanitizer.h"

extern "C" {
// Pushes the callee-saved registers, stores the stack pointer in *save and resumes the context whose stack pointer is
// `load`. Floating-point modes are shared by all contexts and left alone.
__attribute__((visibility("hidden"))) void moe_simt_switch(void** save, void* load) asm("moe_simt_switch");
}

namespace moe::simt::machine {

struct Stack {
  std::byte* bottom = nullptr;
  size_t size = 0;
};

// A flow of control that can be suspended and resumed: the one started by the operating system, or one on a stack of
// our own.
class Context {
 public:
  Context() = default;
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Becomes the caller's flow, so that others can switch back to it.
  void adopt_caller();
  // The next switch to this context calls entry() on `stack`. entry() must call entered() first and end with leave().
  void prepare(Stack stack, void (*entry)());

  // Switches from the running context `from` to `to`; returns when something switches back to `from`.
  static void switch_to(Context& from, Context& to) {
    sanitizer::start_switch(&from.fake_stack_, to.stack_.bottom, to.stack_.size, to.fiber_);
    moe_simt_switch(&from.stack_pointer_, to.stack_pointer_);
    sanitizer::finish_switch(from.fake_stack_, nullptr, nullptr);
  }
  // `host`: the adopted context of the same operating system thread.
  static void entered(Context& host);
  // Like switch_to, but `from` has ended.
  [[noreturn]] static void leave(Context& from, Context& to);

 private:
  void abandon();

  bool over_ = true;  // no function of the context is on the stack
  void* stack_pointer_ = nullptr;
  Stack stack_;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* fiber_ = nullptr;       // ThreadSanitizer's
  bool own_fiber_ = false;
};

}  // namespace moe::simt::machine
