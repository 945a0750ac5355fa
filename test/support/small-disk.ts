import { execFileSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Makes the folder a file system of that size, in memory. */
export function mountSmall(path: string, sizeBytes = 8 * 1024 ** 2): void {
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", path], { stdio: "ignore" });
}

export function unmount(path: string): void {
  execFileSync("umount", [path]);
}

/** Why a small file system cannot be had here; false: it can. */
export const CANNOT_MOUNT = canMount() ? false : "only root can mount a small file system";

function canMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), "connectstorm-mount-"));
  try {
    mountSmall(path);
    unmount(path);
    return true;
  } catch {
    return false; // not root, or root in a container without the right
  } finally {
    rmdirSync(path);
  }
}
