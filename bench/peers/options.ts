import { parseArgs } from "node:util";
import { type NamedShape, shapeNames, shapeOptions } from "#lib/bench/shape_option.js";
import { choiceOption, integerOption, listOption, secondsOption, UsageError } from "#lib/terminal/option_values.js";
import { threadsOption } from "../program.js";
import { type PeerFormat, peerFormats } from "./formats.js";
import { type Peer, peers } from "./peers.js";

const peerNames = peers.map(({ name }) => name);

export const help = `Usage: npm run bench:peers -- [options]

Times a layer on the CPU device, alternating with other software on the same weights and tokens, after comparing their
outputs. Every layer starts from the router's logits. Calls rotate over copies of the weights that are twice as large as
the last-level cache, as far as memory allows. Needs space for the weights in the directory for temporary files (TMPDIR).

Options:
  --shape NAMES      ${shapeNames} (A,B,C)
  --dtype FORMATS    of weights: ${peerFormats.slice(0, 4).join(", ")},
                     ${peerFormats.slice(4, 8).join(", ")},
                     ${peerFormats.slice(8).join(", ")} (f32,bf16);
                     tokens are float32 for quantised weights, and with
                     :int8 the products may round them
  --tokens NUMBERS   tokens per call (1,8,64,512,2048,4096)
  --peer NAMES       ${peerNames.join(", ")}
                     (all that this machine can run)
  --training         a forward with its router and a backward; for peers that train
  --rounds N         turns of every contender (7)
  --time SECONDS     minimum time of a turn (0.1)
  --threads N        threads of every contender (all CPUs)
  --json FILE        also write the results to FILE
  --chart FILE       also draw them as SVG to FILE
  -h, --help         show this help
`;

export interface Options {
  readonly shapes: readonly NamedShape[];
  readonly formats: readonly PeerFormat[];
  readonly tokens: readonly number[];
  /** Undefined: all that this machine can run. */
  readonly peers: readonly Peer[] | undefined;
  readonly training: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly threads: number;
  readonly json: string | undefined;
  readonly chart: string | undefined;
}

/** Parses the command line; undefined if it asks for help. */
export function parseOptions(args: readonly string[] = process.argv.slice(2)): Options | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      shape: { type: "string", multiple: true, default: ["A,B,C"] },
      dtype: { type: "string", multiple: true, default: ["f32,bf16"] },
      tokens: { type: "string", multiple: true, default: ["1,8,64,512,2048,4096"] },
      peer: { type: "string", multiple: true },
      training: { type: "boolean", default: false },
      rounds: { type: "string", default: "7" },
      time: { type: "string", default: "0.1" },
      threads: { type: "string" },
      json: { type: "string" },
      chart: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const formats = listOption("dtype", values.dtype).map((name) => choiceOption("dtype", name, peerFormats));
  const frozen = formats.find((format) => format !== "f32" && format !== "bf16");
  if (values.training && frozen) throw new UsageError(`--training: expected f32 or bf16, got ${frozen}`);
  return {
    shapes: shapeOptions(listOption("shape", values.shape)),
    formats,
    tokens: listOption("tokens", values.tokens).map((count) => integerOption("tokens", count, 1)),
    peers:
      values.peer &&
      // `--peer=` is none: this package alone.
      listOption("peer", values.peer.join("") === "" ? undefined : values.peer)
        .map((name) => choiceOption("peer", name, peerNames))
        .map((name) => peers.find((peer) => peer.name === name) as Peer),
    training: values.training,
    rounds: integerOption("rounds", values.rounds, 1),
    seconds: secondsOption("time", values.time),
    threads: threadsOption(values.threads),
    json: values.json,
    chart: values.chart,
  };
}
