// Compiles the functions up to target_end.h for the instruction sets of MOE_TARGET. Standard headers come before: their
// inline functions must stay callable on every CPU.
#define MOE_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define MOE_TARGET_PUSH(sets) MOE_PRAGMA(clang attribute push(__attribute__((target(sets))), apply_to = function))
MOE_TARGET_PUSH(MOE_TARGET)
#elif defined(__GNUC__)
#define MOE_TARGET_PUSH(sets) MOE_PRAGMA(GCC target(sets))
#pragma GCC push_options
MOE_TARGET_PUSH(MOE_TARGET)
#endif
