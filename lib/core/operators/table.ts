import { capacity } from "./capacity.js";
import { experts } from "./experts.js";
import type { Fields, Handles, Operands } from "./field.js";
import { formats } from "./formats.js";
import { noise } from "./noise.js";
import { optimizers } from "./optimizers.js";
import { routing } from "./routing.js";
import { statistics } from "./statistics.js";

/** All operators; every device implements them. native/core/operators/list.h is the same list in C++. */
export const operators = { ...routing, ...capacity, ...experts, ...formats, ...statistics, ...noise, ...optimizers };

/** What every operator reads and writes, by its name. */
export type OperatorTable = typeof operators;
/** The name of an operator, as subjects have it. */
export type OperatorName = keyof OperatorTable;

/** The operators of a table as functions of their operands, with a device's handle types. */
export type Operators<Table extends { readonly [name: string]: Fields }, H extends Handles> = {
  readonly [Name in keyof Table]: (operands: Operands<Table[Name], H>) => void;
};
