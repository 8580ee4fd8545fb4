/** What a client is told instead of an answer, as OpenAI's servers tell it. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;
  readonly code: string;
  /** The field of the body that it is about; null for none. */
  readonly param: string | null;

  constructor(status: number, code: string, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** The body of an error. */
export function errorBody({ status, code, param, message }: HttpError): object {
  return { error: { message, type: status < 500 ? "invalid_request_error" : "server_error", param, code } };
}
