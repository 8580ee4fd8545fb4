import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { address, addressText } from "../../lib/parallel/address.js";
import { type ServeOptions, serveBanks } from "../../lib/parallel/bank_server.js";
import { type Frame, type FrameKind, FrameReader, sendFrame, sendJson } from "../../lib/parallel/frames.js";
import { protocol } from "../../lib/parallel/hello.js";
import { newTokens, type TokensHead } from "../../lib/parallel/messages.js";
import { ParallelLayer } from "../../lib/parallel/parallel_layer.js";
import { connectBanks } from "../../lib/parallel/remote_banks.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { bankOptions, optionsOf } from "../support/banks.js";
import { openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

const base = { hiddenSize: 8, intermediateSize: 4, numExperts: 6, topK: 2 } as const;
const device = openForTests("cpu");
const bank = (first: number, count: number, config = {}) =>
  MoeLayer.create(bankOptions(optionsOf(device(), { ...base, ...config }), { first, count }));
/** Tokens that all choose an expert of the far bank. */
const routing = (tokens = 3) => ({
  ids: device().tensor(new Int32Array(2 * tokens).fill(5), [tokens, 2]),
  weights: device().tensor(new Float32Array(2 * tokens).fill(0.5), [tokens, 2]),
});
const someTokens = (tokens = 3) => device().tensor(new Float32Array(8 * tokens).fill(1), [tokens, 8]);

/** A server that does as it is told with each connection. */
async function fakeServer(serve: (socket: Socket) => void) {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** The first words of a server of this layer, as it says them itself. */
async function helloOf(layer: MoeLayer): Promise<unknown> {
  await using server = await serveBanks(layer);
  const { frames } = await exchange(server.address, () => {}, 1);
  return JSON.parse((frames[0] as Frame).body.toString());
}

/** What a server answers to whatever `send` writes; ends after so many frames or with the connection. */
async function exchange(at: string, send: (socket: Socket) => void, count: number) {
  const { host, port } = address(at, "address") as { host: string; port: number };
  const socket = connect({ host, port });
  const reader = new FrameReader(() => 2 ** 26);
  const frames: Frame[] = [];
  const ended = new Promise<boolean>((resolve) => {
    socket.on("error", () => {});
    socket.on("close", () => resolve(true));
    socket.on("data", (chunk: Buffer) => {
      frames.push(...reader.frames(chunk));
      if (frames.length >= count) resolve(false);
    });
  });
  send(socket);
  const closed = await ended;
  socket.destroy();
  return { frames, closed };
}

describe("addresses", () => {
  test.each(["localhost:80", "127.0.0.1:0", "[::1]:7000", "/tmp/a b.sock", "./socket", "10.0.0.1:65535"])(
    "%s",
    (text) => {
      expect(addressText(address(text, "address"))).toBe(text);
    },
  );

  test.each([
    "",
    "host",
    "host:",
    ":80",
    "host:65536",
    "::1:80",
    "[host]:80",
    "a b:80",
    `/${"x".repeat(103)}`,
    7000,
    null,
  ])("not %j", (value) => {
    expectError(() => address(value, "address"), "INVALID_ARGUMENT", /^address: expected /);
  });
});

describe("a server that", () => {
  const layerAt = async (at: string, timeout?: number) => {
    const remote = await connectBanks(at, { timeout });
    return { remote, layer: await ParallelLayer.create(bank(0, 4), [remote.bank()]) };
  };

  test("is not there, or is none", async () => {
    await expectRejection(connectBanks("127.0.0.1:1"), "CONNECTION_FAILED", /^127\.0\.0\.1:1: .*ECONNREFUSED/);
    await expectRejection(connectBanks("/nowhere/x.sock"), "CONNECTION_FAILED", /^\/nowhere\/x\.sock: .*ENOENT/);
    const says = async (serve: (socket: Socket) => void, message: RegExp, timeout = 10) => {
      await using server = await fakeServer(serve);
      await expectRejection(connectBanks(server.address, { timeout }), "CONNECTION_FAILED", message);
    };
    await says((socket) => socket.end(), /: the server has closed the connection$/);
    await says(() => {}, /: no answer within 0\.05 s$/, 0.05);
    await says(
      (socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"),
      /: expected a frame, got bytes that begin/,
    );
    await says(
      (socket) => sendJson(socket, "hello", 0, { protocol: "other 7" }),
      /: expected a server of .*, got "other 7"$/,
    );
    await says((socket) => sendFrame(socket, "hello", 0, Buffer.from("{")), /JSON/);
    await says((socket) => sendFrame(socket, "share", 0, Buffer.alloc(0)), /: expected no frame of kind share now$/);
    const bad = { protocol, maxTokens: 0, layers: [] };
    await says((socket) => sendJson(socket, "hello", 0, bad), /: hello\.maxTokens: expected an integer >= 1, got 0$/);
    await says((socket) => sendJson(socket, "failure", 0, { code: "X", message: "no room" }), /: no room$/);
  });

  test("ends: forwards that wait reject, and the next one connects again", async () => {
    const far = bank(4, 2);
    // Three tokens are two requests, which both find the connection closed.
    const first = await serveBanks(far, { maxTokens: 2 });
    const { address: at } = first;
    const { layer, remote } = await layerAt(at);
    const before = await (await layer.forward(someTokens(), { routing: routing() })).data();
    await first.close();
    await first.close();
    const failing = Array.from({ length: 3 }, async () =>
      expectRejection(layer.forward(someTokens(), { routing: routing() }), "CONNECTION_FAILED", /127\.0\.0\.1/),
    );
    await Promise.all(failing);
    await using second = await serveBanks(far, { address: at, maxTokens: 2 });
    const again = await Promise.all([1, 2, 3].map(() => layer.forward(someTokens(), { routing: routing() })));
    for (const y of again) expect(await y.data()).toEqual(before);
    expect(second.connections).toBe(1);
    remote.close();
    remote.close();
    await expectRejection(layer.forward(someTokens(), { routing: routing() }), "DISPOSED", /used after close/);
    // The device goes on.
    expect((await bank(0, 6).forward(someTokens()).data()).length).toBe(24);
  });

  test("serves another layer when it is back", async () => {
    const first = await serveBanks(bank(4, 2));
    const { layer } = await layerAt(first.address);
    await first.close();
    await using _second = await serveBanks(bank(3, 3), { address: first.address });
    // The first may still use the connection that has ended.
    await expectRejection(layer.forward(someTokens(), { routing: routing() }), "CONNECTION_FAILED", /127\.0\.0\.1/);
    await expectRejection(
      layer.forward(someTokens(), { routing: routing() }),
      "CONNECTION_FAILED",
      /serves other layers than before/,
    );
  });

  test("sends wrong answers, or none", async () => {
    const hello = await helloOf(bank(4, 2));
    const answers = async (answer: (socket: Socket, request: number) => void, message: RegExp, timeout = 10) => {
      await using server = await fakeServer((socket) => {
        sendJson(socket, "hello", 0, hello);
        const reader = new FrameReader(() => 2 ** 20);
        socket.on("data", (chunk: Buffer) => {
          for (const { request } of reader.frames(chunk)) answer(socket, request);
        });
      });
      const { layer, remote } = await layerAt(server.address, timeout);
      await expectRejection(layer.forward(someTokens(), { routing: routing() }), "CONNECTION_FAILED", message);
      remote.close();
    };
    const bytes = 3 * 8 * 4;
    await answers(() => {}, /: no answer within 0\.05 s$/, 0.05);
    await answers(
      (socket, request) => sendFrame(socket, "share", request, Buffer.alloc(bytes - 4)),
      /: share: expected 96 bytes, got 92$/,
    );
    await answers(
      (socket, request) => sendFrame(socket, "share", request, Buffer.alloc(bytes + 4)),
      /: share: expected at most 96 bytes/,
    );
    await answers(
      (socket, request) => sendFrame(socket, "share", request + 1, Buffer.alloc(bytes)),
      /: expected no frame of kind share now$/,
    );
    await answers((socket) => sendJson(socket, "hello", 0, hello), /: expected no frame of kind hello now$/);
    await answers(
      (socket, request) => sendJson(socket, "failure", request, { code: 1 }),
      /: failure\.code|code: expected a string/,
    );
    await answers((socket) => socket.destroy(), /: the server has closed the connection$/);
  });

  test("fails itself: the error has its code and its address", async () => {
    const far = bank(4, 2);
    await using server = await serveBanks(far);
    const { layer } = await layerAt(server.address);
    far.dispose();
    await expectRejection(
      layer.forward(someTokens(), { routing: routing() }),
      "DISPOSED",
      /^127\.0\.0\.1:\d+: .*used after dispose/,
    );
  });

  test("is stopped waiting for", async () => {
    const hello = await helloOf(bank(4, 2));
    await using server = await fakeServer((socket) => sendJson(socket, "hello", 0, hello));
    const { layer, remote } = await layerAt(server.address);
    const controller = new AbortController();
    const waiting = layer.forward(someTokens(), { routing: routing(), signal: controller.signal });
    setTimeout(() => controller.abort(new Error("enough")), 20);
    await expect(waiting).rejects.toThrow("enough");
    await expect(layer.forward(someTokens(), { signal: controller.signal })).rejects.toThrow("enough");
    remote.close();
  });
});

describe("a client that", () => {
  const valid = (head: Partial<TokensHead> = {}, chosen: readonly number[] = [4, -1]) => {
    const message = newTokens({ layer: 0, count: 1, choices: 2, dtype: "f32", weightDType: "f32", ...head }, 8);
    message.ids.set(chosen.slice(0, message.ids.length));
    return message.body;
  };

  test("asks for what is not there gets an error, and others go on", async () => {
    await using server = await serveBanks(bank(4, 2), { maxTokens: 2 });
    const asks = async (body: Uint8Array, message: RegExp) => {
      const { frames, closed } = await exchange(server.address, (socket) => sendFrame(socket, "tokens", 9, body), 2);
      expect(closed).toBe(false);
      const { kind, request, body: answer } = frames[1] as Frame;
      expect([kind, request]).toEqual(["failure", 9]);
      expect(JSON.parse(answer.toString()).message).toMatch(message);
    };
    await asks(valid({ layer: 7 }), /layer 7 is not served/);
    await asks(valid({}, [6, 0]), /ids: expected -1 to 5, got 6/);
    await asks(valid({}, [-2, 0]), /ids: expected -1 to 5, got -2/);
    await asks(valid().subarray(0, 8), /expected at least 16 bytes, got 8/);
    await asks(valid().subarray(0, 40), /expected \d+ bytes for 1 tokens, got 40/);
    await asks(valid({ dtype: "f64" }), /UNSUPPORTED_DTYPE|f64/);
    await asks(valid({ count: 3 }), /tokens: expected at most 2, got 3/);
    await asks(valid({ choices: 0 }), /choices: expected 1 to 6, got 0/);
    const { frames } = await exchange(server.address, (socket) => sendFrame(socket, "tokens", 3, valid()), 2);
    expect(frames[1]).toMatchObject({ kind: "share", request: 3 });
  });

  test("sends anything at all ends nothing but its own connection", async () => {
    await using server = await serveBanks(bank(4, 2), { maxTokens: 2 });
    const kinds: FrameKind[] = ["hello", "tokens", "share", "failure"];
    const anyBytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .record({ kind: fc.nat(5), request: fc.nat(), length: fc.nat(2 ** 32 - 1), body: fc.uint8Array() })
        .map(({ kind, request, length, body }) => {
          const head = Buffer.alloc(12);
          [kind, request, length].forEach((value, index) => {
            head.writeUInt32LE(value, 4 * index);
          });
          return Buffer.concat([head, body]);
        }),
      // A valid request with one byte changed.
      fc.record({ at: fc.nat(valid().length - 1), by: fc.integer({ min: 1, max: 255 }) }).map(({ at, by }) => {
        const body = Buffer.from(valid());
        body[at] = ((body[at] as number) + by) % 256;
        const head = Buffer.alloc(12);
        [kinds.indexOf("tokens"), 1, body.length].forEach((value, index) => {
          head.writeUInt32LE(value, 4 * index);
        });
        return Buffer.concat([head, body]);
      }),
    );
    await fc.assert(
      fc.asyncProperty(anyBytes, async (bytes) => {
        const { frames } = await exchange(server.address, (socket) => socket.end(bytes), 3);
        expect(frames[0]?.kind).toBe("hello");
        expect(frames.slice(1).every(({ kind }) => kind === "failure" || kind === "share")).toBe(true);
      }),
      { numRuns: 150 },
    );
    const { frames } = await exchange(server.address, (socket) => sendFrame(socket, "tokens", 3, valid()), 2);
    expect(frames[1]?.kind).toBe("share");
    device().synchronizeSync();
  });

  test("sends more requests than may wait gets all answers", async () => {
    await using server = await serveBanks(bank(4, 2), { maxRequests: 2 });
    const remote = await connectBanks(server.address);
    const layer = await ParallelLayer.create(bank(0, 4), [remote.bank()]);
    const outputs = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => (await layer.forward(someTokens(i), { routing: routing(i) })).data()),
    );
    expect(outputs.map(({ length }) => length)).toEqual(Array.from({ length: 40 }, (_, i) => 8 * i));
    remote.close();
  });
});

describe("banks that are not of one layer", () => {
  test.each<[string, () => MoeLayer, RegExp]>([
    [
      "another formula",
      () => bank(4, 2, { topK: 3 }),
      /^far\[0\]: expected a bank of the layer of near, whose topK is 2, got one whose topK is 3$/,
    ],
    ["another size", () => bank(4, 2, { hiddenSize: 9 }), /whose hiddenSize is 8, got one whose hiddenSize is 9$/],
    ["experts that are there twice", () => bank(3, 3), /^far: .* each of 6 experts once, got two banks with expert 3$/],
    ["experts that are missing", () => bank(5, 1), /^far: .* got no bank with expert 4$/],
    ["a missing end", () => bank(4, 1), /got no bank with expert 5$/],
    [
      "another router",
      () => {
        const options = bankOptions(optionsOf(device(), base), { first: 4, count: 2 });
        const router = device().tensor(
          Float32Array.from({ length: 48 }, (_, i) => Math.sin(i)),
          [6, 8],
        );
        return MoeLayer.create({ ...options, router });
      },
      /^far\[0\]: expected a bank of the layer of near, got one with another router, as/,
    ],
  ])("%s", async (_, far, message) => {
    await using server = await serveBanks(far());
    using remote = await connectBanks(server.address);
    await expectRejection(ParallelLayer.create(bank(0, 4), [remote.bank()]), "INVALID_ARGUMENT", message);
  });

  test("arguments of other kinds", async () => {
    await using server = await serveBanks(
      new Map([
        [2, bank(4, 2)],
        [5, bank(4, 2)],
      ]),
    );
    using remote = await connectBanks(server.address);
    expect([server.layers, remote.layers]).toEqual([
      [2, 5],
      [2, 5],
    ]);
    expectError(() => remote.bank(), "INVALID_ARGUMENT", /^layer: expected one of 2, 5, got none$/);
    expectError(() => remote.bank(3), "INVALID_ARGUMENT", /^layer: expected one of 2, 5, got 3$/);
    const anything = <T>(value: unknown) => value as T;
    await expectRejection(ParallelLayer.create(anything(remote), []), "INVALID_ARGUMENT", /^near: expected a MoeLayer/);
    await expectRejection(
      ParallelLayer.create(bank(0, 4), [anything(remote)]),
      "INVALID_ARGUMENT",
      /^far\[0\]: expected a RemoteBank/,
    );
    for (const layers of [[], new Map(), new Map([[0, 1]]), new Map([[-1, bank(0, 6)]]), undefined]) {
      await expectRejection(serveBanks(anything(layers)), "INVALID_ARGUMENT", /^layers/);
    }
    for (const options of [{ address: "x" }, { maxTokens: 0 }, { maxRequests: 0 }, { port: 1 }]) {
      await expectRejection(
        serveBanks(bank(0, 6), anything<ServeOptions>(options)),
        "INVALID_ARGUMENT",
        /address|maxTokens|maxRequests|port/,
      );
    }
    await expectRejection(
      connectBanks(server.address, { timeout: 0 }),
      "INVALID_ARGUMENT",
      /^timeout: expected seconds > 0/,
    );
    const whole = await ParallelLayer.create(bank(0, 6), []);
    expect((await whole.forward(someTokens())).shape).toEqual([3, 8]);
    const wide = { ids: device().tensor(new Int32Array(21), [3, 7]), weights: device().zeros([3, 7], "f32") };
    await expectRejection(
      whole.forward(someTokens(), { routing: wide }),
      "INVALID_ARGUMENT",
      /^routing: expected at most 6/,
    );
    await expectRejection(
      whole.forward(someTokens(), { routing: routing(), logits: device().zeros([3, 6], "f32") }),
      "INVALID_ARGUMENT",
      /^logits cannot be combined with routing$/,
    );
    const norm = { weight: device().zeros([7], "f32") };
    await expectRejection(
      whole.forward(someTokens(), { norm }),
      "SHAPE_MISMATCH",
      /^norm\.weight: expected shape \[8\]/,
    );
    await expectRejection(whole.forward(anything<Tensor<"f32">>([1])), "INVALID_ARGUMENT", /^x: expected a [Tt]ensor/);
    await expectRejection(whole.forward(device().zeros([3, 7], "f32")), "SHAPE_MISMATCH", /^x: expected shape/);
  });
});

describe("sockets in the file system", () => {
  test("are taken over from a process that was killed, and from nothing else", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "banks.sock");
    const server = await serveBanks(bank(0, 6), { address: path });
    expect(server.address).toBe(path);
    await expectRejection(
      serveBanks(bank(0, 6), { address: path }),
      "CONNECTION_FAILED",
      /banks\.sock: cannot listen: .*EADDRINUSE/,
    );
    await server.close();
    expect(existsSync(path)).toBe(false);
    const file = join(directory.path, "file");
    writeFileSync(file, "mine");
    await expectRejection(serveBanks(bank(0, 6), { address: file }), "CONNECTION_FAILED", /cannot listen/);
    expect(existsSync(file)).toBe(true);
    await expectRejection(serveBanks(bank(0, 6), { address: "/nowhere/x.sock" }), "CONNECTION_FAILED", /cannot listen/);
  });
});
