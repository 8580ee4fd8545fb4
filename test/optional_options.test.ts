import ts from "typescript";
import { expect, test } from "vitest";
import { checker, entries, exportsOf, isHidden, isOurs } from "./support/public_types.js";

// With `exactOptionalPropertyTypes`, an option of type `signal?: AbortSignal` cannot be passed on as `{ signal: given.signal }`.
// So whatever users pass takes undefined for what may be left out.

const undefinedType = checker.getUndefinedType();

/** The optional fields of arguments without `| undefined`, by the paths to them. */
function exactFields(): readonly string[] {
  const found = new Map<ts.Symbol, string>();
  const seen = new Set<ts.Type>();

  const visitArguments = (functions: readonly ts.Signature[], name: string): void => {
    for (const { declaration, parameters } of functions) {
      if (declaration && isHidden(declaration)) continue;
      for (const parameter of parameters) visit(checker.getTypeOfSymbol(parameter), `${name}(${parameter.name})`);
    }
  };

  const visit = (type: ts.Type, path: string): void => {
    if (seen.has(type)) return;
    seen.add(type);
    const constraint = type.isTypeParameter() ? checker.getBaseConstraintOfType(type) : undefined;
    if (constraint) visit(constraint, path);
    for (const inner of [...innerTypes(type), ...(type.aliasTypeArguments ?? [])]) visit(inner, path);
    if (type.isUnion() || !hasFields(type)) return;
    for (const field of checker.getPropertiesOfType(type)) {
      // A mapped type's may have no declaration.
      if (field.declarations && !field.declarations.some(isOurs)) continue;
      const place = `${path}.${field.name}`;
      const fieldType = checker.getTypeOfSymbol(field);
      // Methods have no type of their own to add undefined to.
      const isValue = (field.flags & ts.SymbolFlags.Method) === 0;
      const isOptional = (field.flags & ts.SymbolFlags.Optional) !== 0;
      if (isValue && isOptional && !takesUndefined(fieldType) && !found.has(field)) found.set(field, place);
      // What is written into is what a call has returned.
      if (field.name !== "out") visit(fieldType, place);
    }
  };

  for (const [name, symbol] of new Map(entries.flatMap((entry) => [...exportsOf(entry)]))) {
    if ((symbol.flags & ts.SymbolFlags.Value) === 0) continue;
    const type = checker.getTypeOfSymbol(symbol);
    visitArguments([...type.getCallSignatures(), ...type.getConstructSignatures()], name);
    if ((symbol.flags & ts.SymbolFlags.Class) === 0) continue;
    for (const owner of [type, checker.getDeclaredTypeOfSymbol(symbol)]) {
      for (const member of checker.getPropertiesOfType(owner)) {
        const [declaration] = member.declarations ?? [];
        if (declaration === undefined || !isOurs(declaration) || isHidden(declaration)) continue;
        visitArguments(checker.getTypeOfSymbol(member).getCallSignatures(), `${name}.${member.name}`);
      }
    }
  }
  return [...found.values()];
}

/** Whether undefined can be passed, other than by leaving the field out. */
function takesUndefined(type: ts.Type): boolean {
  return type === undefinedType || (type.isUnion() && type.types.includes(undefinedType));
}

/** Constituents of a union or intersection; elements of a list, a tuple or an iterable. */
function innerTypes(type: ts.Type): readonly ts.Type[] {
  if (type.isUnionOrIntersection()) return type.types;
  const isReference = ((type as ts.ObjectType).objectFlags & ts.ObjectFlags.Reference) !== 0;
  return isReference ? checker.getTypeArguments(type as ts.TypeReference) : [];
}

/** Whether a value is an object that users write, neither an instance of a class nor a function. */
function hasFields(type: ts.Type): boolean {
  if (type.isIntersection()) return true;
  if (checker.isArrayType(type) || checker.isTupleType(type)) return false;
  const { symbol } = type;
  if ((type.flags & ts.TypeFlags.Object) === 0 || symbol === undefined) return false;
  if (type.getCallSignatures().length > 0 || (symbol.flags & ts.SymbolFlags.Class) !== 0) return false;
  return isOurs(symbol.declarations?.[0]) || type.aliasSymbol !== undefined;
}

test("what may be left out may be undefined", () => {
  expect(exactFields()).toEqual([]);
});
