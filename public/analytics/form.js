// The test event, sent without leaving the page. Without this file the form is a form.
const ANSWER_WITHIN_MS = 10_000;

const form = document.querySelector("#test-form");
const button = form.querySelector("button");
const fault = document.querySelector("#test-fault");
const said = document.querySelector("#test-said");

let sending = false;

/** `onSent` is told when an event is accepted. */
export function sendInPlace(onSent) {
  form.addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    if (!sending) void send(onSent);
  });
}

async function send(onSent) {
  sending = true;
  button.setAttribute("aria-disabled", "true");
  fault.textContent = "";
  said.textContent = "";
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  const given = [...form.elements].filter((field) => field instanceof HTMLInputElement).map((field) => [field, field.value]);
  const event = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
  try {
    const response = await fetch("/event", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(event), signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    if (response.ok) {
      for (const [field, value] of given) field.defaultValue = value; // nobody's work any more
      tell(event.site_id);
      onSent();
    } else {
      complain((await response.json().catch(() => ({}))).error ?? `The server answers ${response.status}.`);
    }
  } catch {
    complain("The server does not answer: nothing is known of the event. Try again in a moment.");
  } finally {
    sending = false;
    button.removeAttribute("aria-disabled");
  }
}

function tell(siteId) {
  said.append("Accepted: it is counted in a moment.");
  if (siteId === document.querySelector("#main").dataset.site) return;
  const link = document.createElement("a");
  link.href = `/analytics?${new URLSearchParams({ site_id: siteId })}`;
  link.textContent = "Show its site";
  said.append(" ", link);
}

/** The server names the field its sentence is about first. */
function complain(sentence) {
  fault.textContent = sentence;
  const field = form.elements[sentence.split(" ")[0]];
  if (!(field instanceof HTMLInputElement)) return;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "test-fault");
  field.focus();
}
