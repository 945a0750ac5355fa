import { PAGEVIEW } from "../messages.ts";

/** What to write to have a site's events counted. Plain text: whoever shows it escapes it. */
export function snippetsFor(origin: string, siteId: string): { curl: string; script: string; call: string } {
  const event = JSON.stringify({ site_id: siteId, event_type: PAGEVIEW, path: "/home", user_id: "user123" });
  return {
    curl: `curl ${origin}/event -H 'Content-Type: application/json' -d ${shellQuoted(event)}`,
    script: `<script defer src="${origin}/tracker.js" data-site="${attributeEscaped(siteId)}"></script>`,
    call: 'connectstorm("signup")',
  };
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function attributeEscaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
