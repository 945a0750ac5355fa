// ConnectStorm counts page views, without a cookie: <script defer src="https://hub.example/tracker.js" data-site="my-site"></script>
// Of your own: connectstorm("signup"), connectstorm("download", { path: "/report.pdf" }). Do Not Track and Global Privacy Control are respected.
(() => {
  const { src, dataset: { site, user } } = document.currentScript;
  const to = new URL("/event", src);
  let shown;

  const cut = (text, most) => [...String(text)].slice(0, most).join("");

  const send = (event_type, path) => {
    if (!site || navigator.doNotTrack === "1" || navigator.globalPrivacyControl) return;
    const body = JSON.stringify({ site_id: site, event_type, path: cut(path, 500), ...(user ? { user_id: cut(user, 255) } : { visitor: "daily" }) });
    if (!navigator.sendBeacon?.(to, body)) fetch(to, { method: "POST", body, mode: "no-cors", credentials: "omit", keepalive: true }).catch(() => {});
  };

  const view = () => {
    if (document.prerendering || shown === location.pathname) return;
    send("pageview", (shown = location.pathname));
  };

  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = function () {
      change.apply(this, arguments);
      view();
    };
  }
  addEventListener("popstate", view);
  document.addEventListener("prerenderingchange", view);
  addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    shown = undefined; // come back to by the browser's buttons: seen again
    view();
  });
  view();

  window.connectstorm = (type, details) => {
    try {
      send(cut(type ?? "", 255), details?.path ?? location.pathname);
    } catch {} // a page is not harmed by what it gives
  };
})();
