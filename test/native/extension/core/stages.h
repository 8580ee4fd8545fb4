// Stages of the tests: what one adds to native/core/layer/stages.h, from outside.
#pragma once

#define MOE_EXTENSION_STAGES(X)
