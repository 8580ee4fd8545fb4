// Operators of another process, which is written in Python: see peer.py.
//
//     npx moe-kernels verify --subject ./examples/verify_your_kernel/python_subject.mjs

import { fileURLToPath } from "node:url";
import { processSubject } from "moe-kernels/testing";

export default await processSubject("python3", { args: [fileURLToPath(new URL("peer.py", import.meta.url))] });
