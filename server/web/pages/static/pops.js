// Watches for screen pops, lists them, and opens those that are links in one window.
"use strict";
(() => {
  const place = document.getElementById("pops");
  if (!place) return;
  const list = document.getElementById("pops-list"), row = document.getElementById("pops-row").content.firstElementChild;
  const status = document.getElementById("pops-status"), news = document.getElementById("pops-news");
  const windowName = "zendeskblocks-pop", most = 300;
  const seen = new Set(Array.from(list.children, (tr) => tr.dataset.id));
  let last = "", wait = 2000;

  const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const web = (address) => /^https?:\/\//i.test(address);

  // open is false where the browser has kept the window from opening.
  const open = (address) => {
    const opened = window.open(address, windowName);
    return opened !== null && !opened.closed;
  };

  const blocked = document.getElementById("pops-blocked");
  const allow = document.getElementById("pops-allow");
  allow.hidden = false;
  allow.addEventListener("click", () => { blocked.hidden = open(allow.dataset.window); });

  const add = (pop) => {
    const tr = row.cloneNode(true), part = (name) => tr.querySelector("[data-part=" + name + "]");
    tr.dataset.id = pop.id;
    const time = part("time");
    time.dateTime = pop.time;
    time.textContent = pop.clock;
    const what = part("what");
    if (web(pop.url)) {
      what.href = pop.url;
      what.target = windowName;
      what.textContent = pop.what;
    } else {
      what.replaceWith(pop.what);
    }
    part("outcome").textContent = pop.outcome;
    part("why").textContent = pop.why;
    const interaction = part("interaction");
    interaction.textContent = pop.interaction;
    if (interaction.href) interaction.href = "/interactions?id=" + encodeURIComponent(pop.interaction);
    let before = list.firstElementChild; // the newest come first
    while (before && before.querySelector("time") && Date.parse(before.querySelector("time").dateTime) > Date.parse(pop.time)) before = before.nextElementSibling;
    list.insertBefore(tr, before);
    while (list.children.length > most) list.lastElementChild.remove();
    document.getElementById("pops-none").hidden = true;
    list.closest("div").hidden = false;
  };

  const take = (event) => {
    last = event.lastEventId;
    const pop = JSON.parse(event.data);
    if (seen.has(pop.id)) return;
    seen.add(pop.id);
    add(pop);
    if (!pop.open) {
      say(news, pop.what + ": " + pop.outcome);
    } else if (web(pop.url) && open(pop.url)) {
      blocked.hidden = true;
      say(news, pop.what + " was opened");
    } else {
      blocked.hidden = false;
      say(news, pop.what + " could not be opened: its link is in the list");
    }
  };

  const watch = () => {
    const query = new URLSearchParams({ agent: place.dataset.agent });
    if (last) query.set("last", last);
    const source = new EventSource("/pops/events?" + query);
    source.addEventListener("open", () => { wait = 2000; say(status, "Watching."); if (news.textContent.startsWith("Not watching")) say(news, "Watching again."); });
    source.addEventListener("pop", take);
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) {
        say(status, "Connecting again.");
        return;
      }
      source.close();
      say(status, "Not watching at the moment.");
      say(news, "Not watching at the moment. Reload this page if that lasts: you may have to sign in again.");
      setTimeout(watch, wait);
      wait = Math.min(wait * 2, 60000);
    });
  };
  watch();
})();
