// Stages of the tests, added to native/core/layer/stages.h from outside.
#pragma once

// y = -y, after combine.
#define MOE_EXTENSION_STAGES(X) X(test_negate, "testNegate")
