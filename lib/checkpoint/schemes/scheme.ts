import type { LocatedWeight } from "../locate/located_weight.js";
import type { StoredMatrix } from "./stored_matrix.js";

/** A way in which files store quantised matrices. */
export interface Scheme {
  /** Whether the matrix's tensors are of this scheme. */
  takes(matrix: StoredMatrix): boolean;
  /** @throws BAD_CHECKPOINT if a tensor is missing or has another dtype or shape than the scheme's. */
  locate(matrix: StoredMatrix): LocatedWeight | Promise<LocatedWeight>;
}
