import { nativeTests } from "../support/native_tests.js";

nativeTests("test/native/moe_native_tests");
