/** What is wrong with one upload, as opposed to what is wrong around it: it spends one of the upload's attempts. */
export class ItemTrouble extends Error {
  override readonly name = "ItemTrouble";
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
