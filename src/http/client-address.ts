import type { Request } from "express";

const LONGEST = 64; // a proxy's word may be anything; an address has 39 characters at most
const PORT = /^(\[(?<six>[^\]]+)\]|(?<four>\d+\.\d+\.\d+\.\d+))(:\d+)?$/;
const MAPPED = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i;

/**
 * Who a limit for an address counts: an IPv4 address, or an IPv6 network of 64 bits, of which one customer has all.
 * Behind proxies it is what the outermost one of those TRUST_PROXY counts says it saw; what a client claims moves nothing.
 */
export function addressOf(req: Request): string {
  const ip = req.ip;
  return ip === undefined ? "" : networkOf(ip);
}

export function networkOf(ip: string): string {
  if (!ip.includes(":")) return ip.slice(0, LONGEST);
  const found = PORT.exec(ip)?.groups;
  if (found?.four) return found.four;
  const address = (found?.six ?? ip).slice(0, LONGEST).replace(MAPPED, "");
  if (!address.includes(":")) return address;
  const [head = [], tail] = address.toLowerCase().split("::").map((part) => (part === "" ? [] : part.split(":")));
  const zeros = tail ? Math.max(0, 8 - head.length - tail.length) : 0;
  const groups = [...head, ...Array<string>(zeros).fill("0"), ...(tail ?? [])];
  return `${groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, "")).join(":")}::/64`;
}
