/** What is used of it; the package has no types of its own. Offsets are left out: macOS locks whole files only. */
declare module "fs-native-extensions" {
  /** Advisory, by file descriptor: others of the same process count as others. False: it is held elsewhere. */
  export function tryLock(fd: number, options?: { shared?: boolean }): boolean;
  export function unlock(fd: number): void;
}
