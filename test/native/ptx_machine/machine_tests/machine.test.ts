import { nativeTests } from "../../../support/native_tests.js";

nativeTests("test/native/ptx_machine/machine_tests/moe_ptx_machine_tests");
