import { type TokenFormat, tokenFormats } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { boolean, choice, floatDType, object, optional, type Reader } from "../../core/input/options.js";
import { withoutUndefined } from "../../core/input/without_undefined.js";
import { bankOption, type ExpertRange } from "../../core/layer/expert_range.js";
import { layerConfig, type MoeLayerConfig } from "../../layer/description/config.js";
import { configOf } from "../../layer/description/config_of.js";
import { checkedBank } from "../../layer/description/identity_experts.js";
import type { WeightStorage } from "../../layer/description/storage.js";
import type { LayerParts } from "../../layer/layer_parts.js";
import { badCheckpoint, checkedAt } from "../bad_checkpoint.js";
import type { SafetensorsFile } from "../safetensors/file.js";
import { type JsonObject, parseJsonObject } from "../safetensors/strict_json.js";

/** How a layer was stored when it was saved. */
export interface SavedStorage {
  readonly weights: WeightStorage;
  readonly tokenFormat: TokenFormat;
  /** The experts that the file has. */
  readonly bank: ExpertRange;
}

/** What a file that MoeLayer.save wrote says of its layer. */
export interface SavedLayer {
  readonly config: MoeLayerConfig;
  readonly storage: SavedStorage;
}

/** The version of the format that is written. A layer file without a version is of version 1, which people write. */
const version = "2";

/** The metadata of a layer's file. */
export function savedMetadata(parts: LayerParts): Readonly<Record<string, string>> {
  const { description } = parts;
  const { formats, biasDType, separateGate, tokenFormat, bank, sharedExperts } = description;
  const config = configOf(description, sharedExperts > 0 ? parts.onDevice.sharedWidth : undefined);
  return {
    layer_version: version,
    config: JSON.stringify(config),
    storage: JSON.stringify({ formats, biasDType, separateGate, tokenFormat, bank }),
  };
}

const format: Reader<WeightFormatName> = (value, name) => weightFormat(value as WeightFormatName, name).name;
const expertFormats = { gate: format, up: format, multiplier: format, down: format };
const storageFields = object(
  {
    formats: object(
      {
        router: floatDType,
        sharedGate: floatDType,
        ...expertFormats,
        shared: optional(object(expertFormats, "{ gate, up, multiplier, down }")),
        latentDown: optional(format),
        latentUp: optional(format),
      },
      "{ router, sharedGate, gate, up, multiplier, down }",
    ),
    biasDType: floatDType,
    separateGate: boolean,
    tokenFormat: choice(tokenFormats),
    bank: bankOption,
  },
  "{ formats, biasDType, separateGate, tokenFormat, bank }",
);

/**
 * Reads the metadata of a file that MoeLayer.save wrote; undefined for other files.
 * @throws BAD_CHECKPOINT for another version, and for what makes no sense.
 */
export function readSaved({ path, metadata }: SafetensorsFile): SavedLayer | undefined {
  if (!Object.hasOwn(metadata, "layer_version")) return undefined;
  const place = `${path}: __metadata__`;
  if (metadata.layer_version !== version) {
    const got = JSON.stringify(metadata.layer_version);
    const remedy = "a later release of moe-kernels may read it";
    throw badCheckpoint(
      `${place}.layer_version`,
      `expected "${version}", or none in layer files by hand, got ${got}; ${remedy}`,
    );
  }
  const json = (key: string): JsonObject => {
    const text = Object.hasOwn(metadata, key) ? metadata[key] : undefined;
    if (text === undefined) throw badCheckpoint(`${place}.${key}`, "expected JSON, got none");
    return parseJsonObject(`${place}.${key}`, Buffer.from(text));
  };
  const config = checkedAt(`${place}.config`, () => layerConfig(json("config"), "config")) as MoeLayerConfig;
  return checkedAt(`${place}.storage`, () => {
    const { formats, biasDType, separateGate, tokenFormat, bank } = storageFields(json("storage"), "storage");
    const weights = { formats: withoutUndefined(formats), biasDType, separateGate };
    return { config, storage: { weights, tokenFormat, bank: checkedBank(bank, config) } };
  });
}
