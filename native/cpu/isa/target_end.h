// Ends the region of target_begin.h.
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#undef MOE_TARGET
#undef MOE_TARGET_PUSH
#undef MOE_PRAGMA
