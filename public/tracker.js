// ConnectStorm counts page views, without a cookie: <script defer src="https://hub.example/tracker.js" data-site="my-site"></script>
// Of your own: connectstorm("signup"), connectstorm("download", { path: "/report.pdf" }). Do Not Track and Global Privacy Control are respected.
(() => {
  const { src, dataset: { site, user } } = document.currentScript;
  const to = new URL("/event", src);
  let shown;

  const send = (event_type, path) => {
    if (!site || navigator.doNotTrack === "1" || navigator.globalPrivacyControl) return;
    const body = JSON.stringify({ site_id: site, event_type, path: [...path].slice(0, 500).join(""), ...(user ? { user_id: user } : { visitor: "daily" }) });
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

  window.connectstorm = (type, { path = location.pathname } = {}) => send(type, path);
})();
