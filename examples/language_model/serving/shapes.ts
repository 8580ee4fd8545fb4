/** The bodies and events of one answer, as OpenAI describes them. */
export interface Shapes {
  /** The whole answer. */
  body(text: string, reason: string, usage: Usage): object;
  /** Before the first piece of text, where there is something to send. */
  begin(): readonly object[];
  piece(text: string): object;
  end(reason: string): object;
  /** After the end, if it is asked for. */
  usage(usage: Usage): object;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** The answers of /v1/completions. */
export function completionShapes(id: string, model: string): Shapes {
  const all = { id: `cmpl-${id}`, object: "text_completion", created: seconds(), model };
  const choice = (text: string, finish_reason: string | null) => ({ index: 0, text, logprobs: null, finish_reason });
  return {
    body: (text, reason, usage) => ({ ...all, choices: [choice(text, reason)], usage }),
    begin: () => [],
    piece: (text) => ({ ...all, choices: [choice(text, null)] }),
    end: (reason) => ({ ...all, choices: [choice("", reason)] }),
    usage: (usage) => ({ ...all, choices: [], usage }),
  };
}

/** The answers of /v1/chat/completions. */
export function chatShapes(id: string, model: string): Shapes {
  const all = { id: `chatcmpl-${id}`, object: "chat.completion", created: seconds(), model };
  const streamed = { ...all, object: "chat.completion.chunk" };
  const event = (delta: object, finish_reason: string | null) => ({
    ...streamed,
    choices: [{ index: 0, delta, finish_reason }],
  });
  return {
    body: (content, finish_reason, usage) => ({
      ...all,
      choices: [{ index: 0, message: { role: "assistant", content }, finish_reason }],
      usage,
    }),
    begin: () => [event({ role: "assistant", content: "" }, null)],
    piece: (content) => event({ content }, null),
    end: (reason) => event({}, reason),
    usage: (usage) => ({ ...streamed, choices: [], usage }),
  };
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
