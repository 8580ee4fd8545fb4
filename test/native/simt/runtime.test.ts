import { nativeTests } from "../../support/native_tests.js";

nativeTests("native/simt/test/moe_simt_tests");
nativeTests("native/simt/test/moe_simt_broken_tests");
