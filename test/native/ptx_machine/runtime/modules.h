// The modules that nvcc's code registers when the program is loaded, and their kernels.
#pragma once

#include <memory>

#include "machine/machine.h"
#include "state.h"

namespace ptx_machine {

// The kernel behind a function of the host, as this GPU runs it, read on its first use.
cudaError_t find_kernel(const fake::Gpu& gpu, const void* function, std::shared_ptr<const Kernel>* kernel);

// Adds the kernel's name to the file that MOE_PTX_KERNELS names, if this is its first launch in this process. The names
// of all kernels stand there before, each behind "of ".
void note_launch(const std::string& kernel);

// How kernels run, as the environment says.
inline Background background = Background::late;  // MOE_PTX_ASYNC
inline uint32_t turns = 0;                        // MOE_PTX_TURNS

// Tells of what went wrong on the standard error.
void say(const std::string& text);

}  // namespace ptx_machine
