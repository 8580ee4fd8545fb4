import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JsonParser } from "../../../lib/checkpoint/safetensors/json_parser.js";
import { atOnce, inPieces, sorted } from "../../../lib/checkpoint/safetensors/pieces.js";
import { parseJsonObject } from "../../../lib/checkpoint/safetensors/strict_json.js";
import { isMoeError } from "../../../lib/index.js";

const parse = (text: string) => parseJsonObject("text", Buffer.from(text));

describe("the parser", () => {
  test("reads any object as JSON.parse does", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue()), fc.nat(3), (object, indent) => {
        const text = JSON.stringify(object, undefined, indent);
        expect(JSON.stringify(parse(text))).toBe(JSON.stringify(JSON.parse(text)));
      }),
    );
  });

  test("reads any mutated text as JSON.parse does, or throws BAD_CHECKPOINT", () => {
    const mutation = fc.tuple(fc.nat(), fc.nat(2), fc.constantFrom(...'{}[]",:0-1.eE+ \\/u\n\t\0ntf\u{1f600}'));
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(mutation), (object, mutations) => {
        let text = JSON.stringify(object);
        for (const [at, remove, insert] of mutations) {
          const begin = at % (text.length + 1);
          text = text.slice(0, begin) + insert + text.slice(begin + remove);
        }
        text = Buffer.from(text).toString(); // half a character cannot be encoded
        let read: unknown;
        try {
          read = parse(text);
        } catch (error) {
          if (!isMoeError(error, "BAD_CHECKPOINT")) throw error;
          if (!/unique keys|JSON object/.test(error.message)) expect(() => JSON.parse(text), text).toThrow();
          return;
        }
        expect(JSON.stringify(read)).toBe(JSON.stringify(JSON.parse(text)));
      }),
      { numRuns: 5000 },
    );
  });

  test("gives names like __proto__ no special meaning", () => {
    const object = parse('{"__proto__":{"a":1},"toString":2,"b":{"constructor":{"name":3}}}');
    expect(Object.keys(object)).toEqual(["__proto__", "toString", "b"]);
    expect(object.hasOwnProperty).toBeUndefined();
    expect(() => parse('{"a":{"__proto__":1,"__proto__":2}}')).toThrow('expected unique keys, got "__proto__" twice');
  });

  test.each([
    ["no text", "", "expected a JSON object, got its end at byte 0"],
    ["a list", " []", "expected a JSON object, got an array"],
    ["a string without end", '{"a', "got a string without end"],
    ["a control character", '{"a":"\n"}', "expected valid UTF-8 JSON: "],
    ["a bad escape", '{"a":"\\x"}', "expected valid UTF-8 JSON: "],
    ["a number with a leading zero", '{"a":01}', 'got "01}" at byte 5'],
    ["an unknown word", '{"a":NaN}', 'got "NaN}" at byte 5'],
    ["a name without a value", '{"a" ,1}', 'got ",1}" at byte 5'],
    ["a trailing comma", '{"a":[1,]}', 'got "]}" at byte 8'],
    ["the wrong bracket", '{"a":[1}}', 'got "}}" at byte 7'],
    ["text after it", "{}\n{}", 'got "{}" at byte 3'],
    ["depth", `{"a":${'{"a":'.repeat(64)}`, "expected JSON of at most 64 levels, got more"],
  ])("refuses %s", (_what, text, message) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: "BAD_CHECKPOINT" }));
    expect(() => parse(text)).toThrow(message);
  });

  test("reads Python's numbers that JSON does not have, if they are allowed", () => {
    const values: unknown[] = [];
    const rules = { total: 10, perMember: 10, nonFinite: true };
    const read = (text: string) => [
      ...new JsonParser("text", Buffer.from(text), rules, (_, value) => values.push(value)).parse(),
    ];
    read('{"a":NaN,"b":[0.0,Infinity],"c":-Infinity}');
    expect(values).toEqual([Number.NaN, [0, Number.POSITIVE_INFINITY], Number.NEGATIVE_INFINITY]);
    expect(() => read('{"a":-NaN}')).toThrow('got "-NaN}" at byte 5');
  });

  test("yields, in white space too", () => {
    const pieces = (text: string) => {
      const parser = new JsonParser("text", Buffer.from(text), { total: 1e6, perMember: 1e6 }, () => {});
      return [...parser.parse()].length;
    };
    expect(pieces(`{"a":[${"0,".repeat(1e5)}0]}`)).toBeGreaterThan(500);
    const spaces = " ".repeat(2 ** 25);
    for (const text of [`{${spaces}}`, `{"a"${spaces}:1}`]) expect(pieces(text)).toBeGreaterThan(0);
  });
});

describe("work in pieces", () => {
  const until = function* (done: () => boolean) {
    while (!done()) yield;
    return 7;
  };

  test("lets the event loop run", async () => {
    let passed = false;
    setTimeout(() => {
      passed = true;
    }, 1);
    expect(
      await inPieces(
        until(() => passed),
        undefined,
      ),
    ).toBe(7);
  });

  test("stops at a signal", async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("enough")), 1);
    await expect(
      inPieces(
        until(() => false),
        controller.signal,
      ),
    ).rejects.toThrow("enough");
  });

  test("sorts", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 20 }), fc.nat(20_000), (seeds, length) => {
        const values = Array.from({ length }, (_, index) => ((seeds[index % (seeds.length + 1)] ?? 1) * index) % 9973);
        expect(atOnce(sorted(values, (a, b) => a - b))).toEqual(values.toSorted((a, b) => a - b));
      }),
    );
  });
});
