/** The report of a run so far, as Markdown. */
export function renderReport({ machine, date, steps }) {
  const lines = ["# moe-kernels on a GPU", "", `Date: ${date}`, ""];
  lines.push(
    "| machine | |",
    "| --- | --- |",
    ...Object.entries(machine)
      .flatMap(([key, value]) => rows(key, value))
      .map(([key, value]) => `| ${key} | ${value} |`),
    "",
  );
  lines.push("| step | result | seconds |", "| --- | --- | ---: |");
  lines.push(
    ...steps.map(({ name, passed, seconds }) => `| ${name} | ${passed ? "pass" : "FAIL"} | ${seconds.toFixed(1)} |`),
  );
  for (const { name, output } of steps) {
    if (output !== "") lines.push("", `## ${name}`, "", "```text", output, "```");
  }
  return `${lines.join("\n")}\n`;
}

/** A row of a value, or of each field of each card. */
function rows(key, value) {
  if (!Array.isArray(value)) return [[key, value]];
  if (key !== "cards") return [[key, value.join(", ")]];
  return value.flatMap((card, index) =>
    Object.entries(card).map(([field, text]) => [`nvidia-smi's GPU ${index}, ${field}`, text]),
  );
}
