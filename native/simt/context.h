// Stackful contexts: a switch saves the callee-saved registers, changes the stack and goes on there. No system calls.
#pragma once

#include <cstddef>

#include "simt/sanitizer.h"

extern "C" {
// Pushes the callee-saved registers, stores the stack pointer to *save and takes up the context whose stack pointer is
// `load`. Floating-point modes are the same for all contexts and stay as they are.
__attribute__((visibility("hidden"))) void moe_simt_switch(void** save, void* load) asm("moe_simt_switch");
}

namespace moe::simt::machine {

struct Stack {
  std::byte* bottom = nullptr;
  size_t size = 0;
};

// A flow of control that can be left and taken up again: the one the operating system started, or one on a stack of
// ours.
class Context {
 public:
  Context() = default;
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Becomes the flow that called this, so that others can switch back to it.
  void adopt_caller();
  // The next switch here calls entry() on `stack`. entry() must call entered() first, and must end in leave().
  void prepare(Stack stack, void (*entry)());

  // Leaves `from`, which is the running one, for `to`; returns when something switches back to `from`.
  static void switch_to(Context& from, Context& to) {
    sanitizer::start_switch(&from.fake_stack_, to.stack_.bottom, to.stack_.size, to.fiber_);
    moe_simt_switch(&from.stack_pointer_, to.stack_pointer_);
    sanitizer::finish_switch(from.fake_stack_, nullptr, nullptr);
  }
  // `host`: the adopted context of the same operating system thread.
  static void entered(Context& host);
  // As switch_to, but `from` is over.
  [[noreturn]] static void leave(Context& from, Context& to);

 private:
  void abandon();

  bool over_ = true;  // nothing of ours runs on the stack
  void* stack_pointer_ = nullptr;
  Stack stack_;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* fiber_ = nullptr;       // ThreadSanitizer's
  bool own_fiber_ = false;
};

}  // namespace moe::simt::machine
