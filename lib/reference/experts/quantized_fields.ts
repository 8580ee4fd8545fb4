import { MoeError } from "../../core/errors.js";
import type { WeightMatrix } from "../../core/formats/weight_format.js";
import { inputFields, levelRoles } from "../../core/formats/weight_formats.js";
import type { QuantizedField } from "../../core/layer/weight_role.js";
import { extended } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor, readMatrix } from "../core/tensor.js";

const matrixFields = ["codes", ...levelRoles] as const;

/** What was kept of one expert's matrix. */
interface KeptFields {
  readonly fields: ReadonlyMap<QuantizedField, ReferenceTensor>;
  readonly scalar: number;
}

/** The codes, scales and offsets of experts' quantised matrices as they were set. Products use the values instead. */
export class QuantizedFields {
  readonly #stream: Stream;
  readonly #experts = new Map<number, KeptFields>();

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  get byteLength(): number {
    const all = [...this.#experts.values()].flatMap(({ fields }) => [...fields.values()]);
    return all.reduce((total, { byteLength }) => total + byteLength, 0);
  }

  set(expert: number, weight: WeightMatrix): void {
    const fields = new Map<QuantizedField, ReferenceTensor>();
    for (const field of matrixFields) {
      const matrix = weight[field];
      if (matrix === undefined) continue;
      const { dtype } = matrix.handle as ReferenceTensor;
      const copy = ReferenceTensor.allocate(this.#stream, dtype, [matrix.rows, matrix.columns]);
      copy.store(readMatrix(matrix, matrix.rows, matrix.columns).values);
      fields.set(field, copy);
    }
    for (const field of inputFields) {
      const given = weight[field] as ReferenceTensor | undefined;
      if (given === undefined) continue;
      const copy = ReferenceTensor.allocate(this.#stream, given.dtype, given.shape);
      copy.store(given.values());
      fields.set(field, copy);
    }
    this.#experts.set(expert, { fields, scalar: weight.scalar ?? 1 });
  }

  /** Copies a field; rows and columns that a smaller matrix lacks become zeros. */
  copy(expert: number, field: QuantizedField, target: ReferenceTensor): void {
    const { fields, scalar } = this.#experts.get(expert) as KeptFields;
    if (scalar !== 1) {
      throw new MoeError(
        "UNSUPPORTED_OPERATION",
        `copyField: reference multiplies by the scalar ${scalar} of a quantised matrix without rounding, so its scales ` +
          "cannot hold it; make the layer from scales that are multiplied by it already",
      );
    }
    const kept = fields.get(field);
    if (field === "inputScale" || field === "inputOrder") {
      const values = Float64Array.from({ length: target.shape[0] as number }, (_, k) =>
        field === "inputScale" ? 1 : k,
      );
      if (kept !== undefined) values.set(kept.values());
      target.store(values);
      return;
    }
    const [rows, columns] = target.shape as [number, number];
    target.store(extended((kept as ReferenceTensor).matrix(), rows, columns).values);
  }
}
