import type { PackedHandle } from "../../core/device/backend.js";
import type { WeightMatrix } from "../../core/formats/weight_format.js";
import type { Fields, Operands } from "../../core/operators/field.js";
import type { OperatorName, OperatorTable } from "../../core/operators/table.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import type { Experts } from "../experts/experts.js";
import type { Stream } from "./stream.js";
import type { ReferenceTensor } from "./tensor.js";

/** What the operators of the `reference` device take. */
interface ReferenceHandles {
  readonly tensor: ReferenceTensor;
  readonly matrix: StridedMatrix;
  readonly weight: WeightMatrix;
  readonly packedExperts: PackedHandle & Experts;
}

/** How the `reference` device does an operator of such fields. */
export type ImplementationOf<F extends Fields> = (operands: Operands<F, ReferenceHandles>, stream: Stream) => void;

/** How it does an operator of the table. */
export type Implementation<Name extends OperatorName> = ImplementationOf<OperatorTable[Name]>;
