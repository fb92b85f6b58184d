/** A part of client.js. */

/** Why a command or a subscription was refused or given up. `code`: see client.d.ts. */
export class CommandError extends Error {
  constructor(code, message, fields = {}) {
    super(message);
    this.name = "CommandError";
    this.code = code;
    this.fields = fields;
  }
}
