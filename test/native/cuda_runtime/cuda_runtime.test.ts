import { nativeTests } from "../../support/native_tests.js";

nativeTests("test/native/cuda_runtime/moe_cuda_runtime_tests");
