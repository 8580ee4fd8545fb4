const shortened = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const start = String.raw`[^\r\n\p{L}\p{N}]?`;
const spaces = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
const [upper, lower] = [String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`];

const marks = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]";

/** Qwen's numbers have one digit, GLM's up to three. */
const words = (digits: string) =>
  String.raw`${shortened}|${start}\p{L}+|\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`;

/** The patterns by which a text is split, one after another, before tokens are merged, by GGUF's names of them. */
export const textSplits: ReadonlyMap<unknown, readonly string[]> = new Map([
  ["gpt-2", [String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`]],
  ["qwen2", [words("")]],
  ["glm4", [words("{1,3}")]],
  [
    "gpt-4o",
    [
      String.raw`${start}${upper}*${lower}+${shortened}?|${start}${upper}+${lower}*${shortened}?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${spaces}`,
    ],
  ],
  [
    "deepseek-v3",
    [
      String.raw`\p{N}{1,3}`,
      "[一-龥぀-ゟ゠-ヿ]+",
      String.raw`${marks}[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|${spaces}`,
    ],
  ],
]);
