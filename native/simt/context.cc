#include "simt/context.h"

#include <cstdint>
#include <cstring>

// Hidden from other modules.
#if defined(__APPLE__)
#define MOE_HIDE ".private_extern moe_simt_switch\n"
#else
#define MOE_HIDE ".hidden moe_simt_switch\n"
#endif

#if defined(__x86_64__)

// Threads mostly wait at the same call depth, so `ret` matches the processor's return predictor; a jump instead would
// leave the predictor off by one for all later returns.
asm(".text\n.p2align 4\n.globl moe_simt_switch\n" MOE_HIDE
    "moe_simt_switch:"
    R"(
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace {

// What the switch pops, then a null return address for `entry`, where unwinding ends. The stack is aligned as after a
// call.
void* initial_frame(std::byte* top, void (*entry)()) {
  void** words = reinterpret_cast<void**>(top) - 8;
  memset(words, 0, 8 * sizeof(void*));
  words[6] = reinterpret_cast<void*>(entry);
  return words;
}

}  // namespace

#elif defined(__aarch64__)

asm(".text\n.p2align 4\n.globl moe_simt_switch\n" MOE_HIDE
    "moe_simt_switch:"
    R"(
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");

namespace {

// What the switch loads: a null frame pointer, where unwinding ends, and `entry` in the link register.
void* initial_frame(std::byte* top, void (*entry)()) {
  void** words = reinterpret_cast<void**>(top) - 20;
  memset(words, 0, 20 * sizeof(void*));
  words[11] = reinterpret_cast<void*>(entry);
  return words;
}

}  // namespace

#else
#error "the simt device needs a context switch for this processor: see native/simt/context.cc"
#endif

namespace moe::simt::machine {

Context::~Context() {
  if (!over_) abandon();
  if (own_fiber_) sanitizer::destroy_fiber(fiber_);
}

void Context::adopt_caller() {
  stack_ = {};
  fiber_ = sanitizer::current_fiber();
}

void Context::prepare(Stack stack, void (*entry)()) {
  if (!over_) abandon();
  if (!own_fiber_) fiber_ = sanitizer::create_fiber();
  own_fiber_ = true;
  over_ = false;
  stack_ = stack;
  std::byte* top = stack.bottom + stack.size;
  stack_pointer_ = initial_frame(top - reinterpret_cast<uintptr_t>(top) % 16, entry);
}

// A context abandoned in mid-call still has its functions' red zones on its stack and their names in its fiber.
void Context::abandon() {
  sanitizer::unpoison(stack_.bottom, stack_.size);
  sanitizer::destroy_fiber(fiber_);
  own_fiber_ = false;
  fake_stack_ = nullptr;
}

void Context::entered(Context& host) {
  // The first context to run learns where the operating system's stack is.
  Stack previous;
  sanitizer::finish_switch(nullptr, &previous.bottom, &previous.size);
  if (host.stack_.bottom == nullptr) host.stack_ = previous;
}

void Context::leave(Context& from, Context& to) {
  from.over_ = true;
  sanitizer::start_switch(nullptr, to.stack_.bottom, to.stack_.size, to.fiber_);
  moe_simt_switch(&from.stack_pointer_, to.stack_pointer_);
  __builtin_unreachable();
}

}  // namespace moe::simt::machine
