/** What a client is told instead of an answer, as OpenAI's servers tell it. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The body of an error. */
export function errorBody({ status, code, message }: HttpError): object {
  return { error: { message, type: status < 500 ? "invalid_request_error" : "server_error", param: null, code } };
}
