import { Upload, type UploadOptions } from "tus-js-client";

export interface Sent {
  /** Path of the upload's address. */
  location: string;
  upload: Upload;
}

const MOST_STARTS = 50;

/**
 * Hands bytes in by tus-js-client, as its users do; resolves when it says that they are in, rejects when it gives up. It tries
 * again by itself, but not the request that makes one file of parts (4.3): then it is started again where it was.
 */
export function sendByTusJs(url: string, bytes: Uint8Array, options: Partial<UploadOptions> = {}, began?: (upload: Upload) => void): Promise<Sent> {
  return new Promise((resolve, reject) => {
    let starts = 1;
    const upload = new Upload(Buffer.from(bytes) as never, {
      endpoint: `${url}/api/uploads`, retryDelays: [20, 50, 100, 200, ...Array<number>(200).fill(300)], metadata: { filename: "sent.bin" },
      onSuccess: () => resolve({ location: new URL(upload.url!).pathname, upload }),
      onError(error) {
        const isAnswered = "originalResponse" in error && error.originalResponse !== null;
        if (isAnswered || starts >= MOST_STARTS) return reject(error);
        starts++;
        setTimeout(() => upload.start(), 200);
      },
      ...options,
    });
    began?.(upload);
    upload.start();
  });
}
