import { describe, expectTypeOf, test } from "vitest";
import type { Gating, MoeLayerDescription } from "../../lib/index.js";
import {
  deviceSubject,
  type OutputArray,
  type Subject,
  type SubjectInputTable,
  type SubjectOutput,
  type SubjectOutputTable,
  type TestArray,
  type TestWeight,
  toFloat32,
} from "../../lib/testing/index.js";

describe("a subject's operator", () => {
  test("gets the fields of the operator, and what to return", () => {
    expectTypeOf<SubjectInputTable["permute"]>().toEqualTypeOf<{
      readonly x: TestArray;
      readonly tokenOfRow: TestArray;
      readonly outputs: { readonly rows: OutputArray };
    }>();
    expectTypeOf<SubjectInputTable["sort"]>().not.toHaveProperty("numExperts");
    expectTypeOf<SubjectInputTable["gating"]["rule"]>().toExtend<Gating>();
    expectTypeOf<SubjectInputTable["limitCapacity"]["drop"]>().toEqualTypeOf<
      "position" | "prioritized" | "probability"
    >();
    expectTypeOf<SubjectInputTable["sgd"]["nesterov"]>().toEqualTypeOf<boolean>();
  });

  test("gets optional tensors that are used", () => {
    expectTypeOf<SubjectInputTable["combine"]["residual"]>().toEqualTypeOf<TestArray | undefined>();
    expectTypeOf<SubjectInputTable["expertTotals"]["outputs"]["sums"]>().toEqualTypeOf<OutputArray | undefined>();
    expectTypeOf<SubjectOutputTable["expertTotals"]>().toEqualTypeOf<{
      readonly tokens: SubjectOutput;
      readonly dropped: SubjectOutput;
      readonly sums?: SubjectOutput;
    }>();
  });

  test("gets what it updates, and returns it", () => {
    expectTypeOf<SubjectInputTable["sumOfSquares"]>().toEqualTypeOf<{
      readonly values: TestArray;
      readonly total: TestArray;
      readonly outputs: { readonly total: OutputArray };
    }>();
    expectTypeOf<SubjectOutputTable["sumOfSquares"]>().toEqualTypeOf<{ readonly total: SubjectOutput }>();
  });

  test("gets weights as they are before they are packed", () => {
    const { weight, activation, clamp } = {} as SubjectInputTable["groupedGemm"];
    if ("codes" in weight) {
      expectTypeOf(weight.codes).toEqualTypeOf<TestArray>();
      expectTypeOf(weight.scales).toEqualTypeOf<TestArray | undefined>();
      expectTypeOf(weight.scalar).toEqualTypeOf<number | undefined>();
    } else {
      expectTypeOf(weight).toEqualTypeOf<TestArray>();
    }
    expectTypeOf(weight.shape).toEqualTypeOf<readonly number[]>();
    expectTypeOf(activation).toExtend<string>();
    expectTypeOf(clamp.limit).toEqualTypeOf<number>();
  });

  test("can be a whole layer", () => {
    const { weights, config, description, routing, training } = {} as SubjectInputTable["layer"];
    expectTypeOf(weights.router).toEqualTypeOf<TestArray>();
    expectTypeOf(weights.experts.down).toEqualTypeOf<TestArray | TestWeight>();
    expectTypeOf(config.topK).toEqualTypeOf<number>();
    expectTypeOf(config).not.toHaveProperty("experts");
    expectTypeOf(description).toEqualTypeOf<MoeLayerDescription>();
    expectTypeOf(routing?.ids).toEqualTypeOf<TestArray | undefined>();
    expectTypeOf(training?.noise).toEqualTypeOf<TestArray | undefined>();
  });

  test("needs no types of its own", () => {
    const subject: Subject = {
      name: "mine",
      operators: {
        sumOfSquares({ values, total }) {
          expectTypeOf(values).toEqualTypeOf<TestArray>();
          const sum = toFloat32(values).reduce((all, value) => all + value * value, 0);
          return { total: [sum + (total.data[0] as number)] };
        },
        expertSlots: () => null,
        layer: async ({ outputs }) => ({ y: new Float32Array(outputs.y.shape.length) }),
        combine: undefined,
      },
      supports: (operator, { x }) => operator !== "layer" || x.dtype === "f32",
    };
    expectTypeOf(subject.operators.combine).not.toBeAny();
    // @ts-expect-error there is no such input
    const wrongInput: Subject["operators"] = { sort: ({ logits }) => logits };
    // @ts-expect-error there is no such output
    const wrongOutput: Subject["operators"] = { expertSlots: () => ({ rows: [] }) };
    // @ts-expect-error it has no cases
    const untested: Subject["operators"] = { quantize: () => null };
    expectTypeOf([wrongInput, wrongOutput, untested]).not.toBeAny();
  });

  test("can be taken from another subject", () => {
    const { gating } = deviceSubject({} as never).operators;
    expectTypeOf<Subject["operators"]>().toHaveProperty("gating").toEqualTypeOf<typeof gating>();
  });
});
