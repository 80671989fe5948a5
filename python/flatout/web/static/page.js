// Joins the feed of what runs now with the cards and the list.

import { show } from "./live.js";
import { fault, refresh } from "./runs.js";

const connection = document.getElementById("connection");
let newest = -1;

const feed = new EventSource("events");
feed.onopen = () => { connection.textContent = "connected"; };
feed.onerror = () => {
  connection.textContent = feed.readyState === EventSource.CLOSED ? "not connected: load the page again" : "not connected: trying again …";
};
feed.onmessage = (event) => {
  const state = JSON.parse(event.data);
  show(state.live);
  fault(state.fault);
  if (state.newest !== newest) {
    newest = state.newest;
    refresh();
  }
};
