import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  boolean,
  booleanOr,
  choice,
  finite,
  integer,
  nonNegative,
  object,
  optional,
  positive,
  results,
  text,
} from "../../lib/core/input/options.js";
import { tensor } from "../../lib/core/tensors/tensor_option.js";
import { openDevice } from "../../lib/devices.js";
import { expectError } from "../support/errors.js";

const read = object(
  {
    topK: integer(1, 8),
    normalize: optional(booleanOr(object({ by: choice(["sum", "lp"]) }, '{ by: "sum" }')), false),
    title: optional(text),
  },
  "{ topK: 2 }",
);
const invalid = (options: unknown, message: RegExp) =>
  expectError(() => read(options, "options"), "INVALID_ARGUMENT", message);

describe("an options object", () => {
  test("is read with its defaults", () => {
    expect(read({ topK: 2 }, "options")).toEqual({ topK: 2, normalize: false, title: undefined });
    expect(read({ topK: 2, normalize: { by: "lp" }, title: undefined }, "options").normalize).toEqual({ by: "lp" });
  });

  test("has every field checked, and errors name the whole path", () => {
    invalid({ topK: 9 }, /^topK: expected an integer from 1 to 8, got 9$/);
    invalid({}, /^topK: expected an integer from 1 to 8, got undefined$/);
    invalid({ topK: 1, normalize: "yes" }, /^normalize: expected an object such as \{ by: "sum" \}, got "yes"$/);
    invalid({ topK: 1, normalize: { by: "max" } }, /^normalize\.by: expected one of "sum", "lp", got "max"$/);
    expectError(() => read({ topK: 0 }, "groups"), "INVALID_ARGUMENT", /^groups\.topK: expected an integer/);
  });

  test("may not have other names; the error suggests the nearest valid one", () => {
    invalid({ topK: 1, normalise: true }, /^options: there is no option "normalise"; did you mean "normalize"\?$/);
    invalid({ top_k: 1 }, /^options: there is no option "top_k"; did you mean "topK"\?$/);
    invalid({ topK: 1, normalize: { bye: "lp" } }, /^normalize: there is no option "bye"; did you mean "by"\?$/);
    invalid({ topK: 1, colour: true }, /^options: there is no option "colour"; expected topK, normalize, title$/);
    invalid({ topK: 1, normalise: undefined }, /there is no option "normalise"/);
    invalid({ topK: 1, ["x".repeat(1e6)]: 1 }, /^options: there is no option "x{57}\.\.\."; expected topK/);
    invalid(JSON.parse('{"topK":1,"__proto__":{}}'), /there is no option "__proto__"/);
    invalid({ topK: 1, toString: 1 }, /there is no option "toString"/);
  });

  test("must be an object that can have options", () => {
    using device = openDevice("reference");
    for (const value of [undefined, null, 3, "topK", [1], new Float32Array(1), device, device.zeros([1], "f32")]) {
      invalid(value, /^options: expected an object such as \{ topK: 2 \}, got /);
    }
  });

  test("is seen as destructuring sees it: inherited and hidden fields, getters, spread copies", () => {
    class Config {
      readonly #topK = 3;
      get topK() {
        return this.#topK;
      }
      describe() {
        return "not an option";
      }
    }
    expect(read(new Config(), "options").topK).toBe(3);
    expect(read(Object.create({ topK: 4, whatever: 1 }), "options").topK).toBe(4);
    expect(read({ ...{ topK: 5 } }, "options").topK).toBe(5);
    expect(read(Object.defineProperty({}, "topK", { value: 6 }), "options").topK).toBe(6);
    expect(read(Object.defineProperty({ topK: 7 }, "other", { value: 6 }), "options").topK).toBe(7);
    expect(read({ topK: 8, [Symbol("other")]: 1 }, "options").topK).toBe(8);
  });

  test("is not what every object inherits, which any package of the process may have changed", () => {
    const every = Object.prototype as { topK?: number };
    every.topK = 3;
    try {
      invalid({}, /^topK: expected an integer from 1 to 8, got undefined$/);
      invalid(Object.create({ other: 1 }), /^topK: expected an integer from 1 to 8, got undefined$/);
      expect(read({ topK: 4 }, "options").topK).toBe(4);
      expect(read(Object.create({ topK: 5 }), "options").topK).toBe(5);
      expect(read(Object.assign(Object.create(null), { topK: 6 }), "options").topK).toBe(6);
    } finally {
      delete every.topK;
    }
  });

  test("is read once, whatever it would return the second time", () => {
    const answers = fc.array(fc.oneof(fc.integer({ min: 1, max: 8 }), fc.anything()), { minLength: 2, maxLength: 4 });
    fc.assert(
      fc.property(answers, (values) => {
        let reads = 0;
        const options = {
          get topK() {
            return values[reads++];
          },
        };
        const [first] = values;
        if (Number.isSafeInteger(first) && (first as number) >= 1 && (first as number) <= 8) {
          expect(read(options, "options").topK).toBe(first);
        } else {
          invalid(options, /^topK: expected an integer/);
        }
        expect(reads).toBe(1);
      }),
    );
  });

  test("is refused for any name that is not its own", () => {
    fc.assert(
      fc.property(fc.string(), fc.anything(), (name, value) => {
        const options = Object.defineProperty({ topK: 1 }, name, { value, enumerable: true });
        if (["topK", "normalize", "title"].includes(name)) return;
        invalid(options, /^options: there is no option ".*"; (did you mean|expected topK)/s);
      }),
    );
  });
});

test("results of operators may have more fields than are read", () => {
  using device = openDevice("reference");
  const ids = device.zeros([1, 1], "i32");
  const routing = results({ ids: tensor<"i32">(), weights: optional(tensor<"f32">()) });
  expect(routing({ ids, tokens: ids }, "routing")).toEqual({ ids, weights: undefined });
  expectError(() => routing({ id: ids }, "routing"), "INVALID_ARGUMENT", /^routing\.ids: expected a Tensor, got undef/);
  expectError(
    () => routing(ids, "routing"),
    "INVALID_ARGUMENT",
    /^routing: expected an object such as \{ ids, weights/,
  );
});

test("results may be disposable", () => {
  using device = openDevice("reference");
  using ids = device.zeros([1, 1], "i32");
  const routing = results({ ids: tensor<"i32">() });
  class Routing {
    readonly ids = ids;
    [Symbol.dispose]() {}
  }
  expect(routing(new Routing(), "routing")).toEqual({ ids });
  expect(routing({ ids, [Symbol.dispose]() {} }, "routing")).toEqual({ ids });
});

test("a number that devices compute with is also what is asked for in float32", () => {
  const most = (2 - 2 ** -23) * 2 ** 127;
  for (const value of [most, -most, 0, 1e-300]) expect(finite(value, "scale")).toBe(value);
  for (const value of [most, 0, 1e-300]) expect(nonNegative(value, "rate")).toBe(value);
  for (const value of [most, 2 ** -149]) expect(positive(value, "epsilon")).toBe(value);
  const refused = (read: () => number, message: RegExp) => expectError(read, "INVALID_ARGUMENT", message);
  refused(() => finite(-1e39, "scale"), /^scale: expected a finite number in float32, got -1e\+39$/);
  refused(() => nonNegative(1e39, "rate"), /^rate: expected a finite number >= 0 in float32, got 1e\+39$/);
  refused(() => positive(1e-46, "epsilon"), /^epsilon: expected a finite number > 0 in float32, got 1e-46$/);
  refused(() => positive(-1e39, "epsilon"), /^epsilon: expected a finite number > 0, got -1e\+39$/);
});

test("a boolean is not just any truthy value", () => {
  expect(boolean(false, "square")).toBe(false);
  expectError(() => boolean(1, "square"), "INVALID_ARGUMENT", /^square: expected a boolean, got 1$/);
});
