import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { floatDTypes } from "../../lib/core/tensors/dtype.js";
import { type FrameKind, FrameReader, sendFrame } from "../../lib/parallel/frames.js";
import { longestTokens, newTokens, readTokens } from "../../lib/parallel/messages.js";

/** What is written to a socket. */
function written(write: (socket: Socket) => void): Buffer {
  const stream = new PassThrough();
  write(stream as unknown as Socket);
  return (stream.read() as Buffer | null) ?? Buffer.alloc(0);
}

describe("frames", () => {
  const anyFrame = fc.record({
    kind: fc.constantFrom<FrameKind>("hello", "tokens", "share", "failure"),
    request: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    body: fc.uint8Array({ maxLength: 120 }),
  });

  test("come out as they went in, in whatever pieces they arrive", () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 5 }), fc.array(fc.integer({ min: 1, max: 30 })), (frames, cuts) => {
        const bytes = written((socket) => {
          for (const { kind, request, body } of frames) sendFrame(socket, kind, request, body);
        });
        const reader = new FrameReader(() => 200);
        const got = [];
        for (let at = 0; at < bytes.length; ) {
          const end: number = at + (cuts[got.length % Math.max(1, cuts.length)] ?? bytes.length);
          got.push(...reader.frames(bytes.subarray(at, end)));
          at = end;
        }
        expect(got.map(({ kind, request, body }) => [kind, request, [...body]])).toEqual(
          frames.map(({ kind, request, body }) => [kind, request, [...body]]),
        );
        for (const { body } of got) expect(body.byteOffset % 8).toBe(0);
      }),
    );
  });

  test("are refused before memory is taken for them", () => {
    const reader = () => new FrameReader((kind) => (kind === "share" ? 10 : -1));
    const read = (kind: FrameKind, bytes: number) => () => [
      ...reader().frames(written((socket) => sendFrame(socket, kind, 1, Buffer.alloc(bytes)))),
    ];
    expect(read("share", 10)()).toHaveLength(1);
    expect(read("share", 11)).toThrow("share: expected at most 10 bytes, got 11");
    expect(read("hello", 1)).toThrow("expected no frame of kind hello now");
    expect(() => [...reader().frames(Buffer.from("GET / HTTP/1.1\r\n"))]).toThrow(
      /^expected a frame, got bytes that begin/,
    );
  });
});

describe("tokens", () => {
  const anyTokens = fc.record({
    layer: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    count: fc.integer({ min: 0, max: 5 }),
    choices: fc.integer({ min: 1, max: 4 }),
    hiddenSize: fc.integer({ min: 1, max: 7 }),
    dtype: fc.constantFrom(...floatDTypes),
    weightDType: fc.constantFrom(...floatDTypes),
  });
  const filled = (array: { readonly length: number; [index: number]: number }): void => {
    for (let i = 0; i < array.length; i++) array[i] = i + 1;
  };

  test("come out as they went in, and in no other length", () => {
    fc.assert(
      fc.property(anyTokens, fc.integer({ min: -20, max: 20 }), ({ hiddenSize, ...sizes }, change) => {
        const { layer, count, choices } = sizes;
        const given = newTokens(sizes, hiddenSize);
        for (const array of [given.tokens, given.weights, given.ids]) filled(array);
        const { body } = given;
        const aligned = (bytes: Uint8Array) => Buffer.from(new Uint8Array(bytes).buffer);
        expect(body.length).toBeLessThanOrEqual(longestTokens(count, choices, hiddenSize));
        expect(readTokens(aligned(body), (number) => (number === layer ? hiddenSize : undefined))).toEqual(given);
        expect(() => readTokens(aligned(body), () => undefined)).toThrow(`layer ${layer} is not served`);
        const other = aligned(Buffer.concat([body, Buffer.alloc(20)]).subarray(0, body.length + change));
        if (change !== 0) expect(() => readTokens(other, () => hiddenSize)).toThrow(/^tokens: expected/);
      }),
    );
  });
});
