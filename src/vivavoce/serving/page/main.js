// Starts the page: asks what the model can do, connects, and gives each control its work.

import { Microphone, decoded } from "./microphone.js";
import { Player } from "./player.js";
import { Socket } from "./socket.js";
import { Talk } from "./talk.js";
import { View } from "./view.js";
import { Wave } from "./wave.js";

const find = (id) => document.getElementById(id);
const KEY = "vivavoce-key"; // sessionStorage: gone with the tab

const settings = () => ({
  mode: document.querySelector("input[name=mode]:checked").value,
  voice: find("voice").value, // "" is none: answers in text
});
const canPlay = "AudioWorkletNode" in window; // only on https pages and localhost
const view = new View();
const wave = new Wave(find("wave"), find("level"));
const socket = new Socket({ event: (event) => talk.take(event), state: onState });
const talk = new Talk({ view, wave, socket, settings, canPlay });

// connection

async function connect() {
  view.noError();
  view.connection("connecting");
  socket.close();
  const key = sessionStorage.getItem(KEY);
  let answer;
  try {
    answer = await fetch(new URL("v1/models", document.baseURI), {
      headers: key ? { Authorization: `Bearer ${key}` } : {},
    });
  } catch {
    onState("closed", "The server does not answer. Is it running?");
    return;
  }
  if (answer.status === 401) {
    sessionStorage.removeItem(KEY);
    view.connection("closed");
    askForKey(key !== null);
    return;
  }
  if (!answer.ok) {
    onState("closed", `The server answers with status ${answer.status}.`);
    return;
  }
  [talk.card] = (await answer.json()).data;
  view.model(talk.card, canPlay);
  view.welcome(talk.card, settings().mode);
  if (!talk.card.chats) {
    onState("closed", `${talk.card.id} does not hold conversations; it serves other addresses only.`);
    return;
  }
  socket.open(talk.card.id, key);
}

function onState(state, reason) {
  view.connection(state);
  if (state !== "closed") return;
  talk.restart();
  showButton();
  view.activity("");
  view.error(reason, true);
}

function askForKey(wrong) {
  find("key-text").textContent = wrong
    ? "That key was not right. It is kept in this tab until you close it."
    : "It is kept in this tab until you close it.";
  find("key").value = "";
  find("key-dialog").showModal();
}

// sound

let context = null;
let ready = null;

// Browsers let sound begin only after the user pressed something, so this waits for the first question.
async function wakeSound() {
  if (!canPlay || !(talk.card.hears || talk.card.speaks)) return;
  ready ??= prepare();
  await ready;
  if (context.state === "running") return;
  // Dropping a file is no press: the browser goes on refusing, and the answer waits in the player.
  const refused = new Promise((done) => setTimeout(done, 400, true));
  if (await Promise.race([context.resume(), refused])) {
    view.error("Press any key or click to hear the answer.");
    for (const type of ["pointerdown", "keydown"]) addEventListener(type, allow, { once: true });
  }
}

function allow() {
  context.resume();
  view.noError();
}

async function prepare() {
  context = new AudioContext({ latencyHint: "interactive" });
  const modules = ["capture", "playback"].map((name) =>
    context.audioWorklet.addModule(new URL(`page/${name}-worklet.js`, document.baseURI)),
  );
  await Promise.all(modules);
  talk.player = new Player(context, {
    begun: (id, at) => talk.begun(id, at),
    progress: (id, state) => talk.progress(id, state),
    ended: (id, state) => talk.ended(id, state),
  });
  talk.microphone = new Microphone(context, (piece) => talk.hear(piece));
}

// talking

let held = false;
let working = Promise.resolve(); // presses and releases, one after the other

const free = () => settings().mode === "free";

function showButton() {
  const on = free() ? Boolean(talk.microphone?.open) : held;
  const label = free() ? (on ? "Stop listening" : "Start listening") : "Hold to talk";
  view.button(on, free() && on, label);
}

function inOrder(step) {
  working = working.then(step).catch((error) => {
    held = false;
    showButton();
    view.activity("");
    view.error(error.message);
  });
  return working;
}

function needsSound() {
  if (canPlay) return true;
  view.error("Browsers lend the microphone only to https pages and to localhost. Open this page that way.");
  return false;
}

function hold() {
  if (held || free() || find("talk").disabled || !needsSound()) return;
  held = true;
  view.noError();
  showButton();
  inOrder(async () => {
    await wakeSound();
    await talk.press();
    view.activity("Listening");
    if (!held) view.activity("");
  });
}

function letGo() {
  if (!held) return;
  held = false;
  showButton();
  inOrder(async () => {
    const counted = await talk.release();
    view.activity(counted ? "Thinking" : "Hold it while you speak.");
  });
}

function toggle() {
  if (!needsSound()) return;
  inOrder(async () => {
    if (talk.microphone?.open) {
      talk.endListening();
      socket.send("input_audio_buffer.clear");
      talk.microphone.close();
    } else {
      view.noError();
      await wakeSound();
      await talk.listen();
    }
    showButton();
    view.activity(talk.idle());
  });
}

const button = find("talk");
button.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || free()) return;
  button.setPointerCapture(event.pointerId);
  hold();
});
for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(type, letGo);
button.addEventListener("contextmenu", (event) => event.preventDefault());
button.addEventListener("click", (event) => {
  if (free()) toggle();
  else if (event.detail === 0) held ? letGo() : hold(); // a screen reader clicks, and clicks again
});

const isTalkKey = (event) => {
  if (event.target === button) return event.code === "Space" || event.code === "Enter";
  return event.code === "Space" && !event.target.closest("input, select, button, label, dialog, textarea");
};
addEventListener("keydown", (event) => {
  if (!isTalkKey(event) || event.ctrlKey || event.metaKey || event.altKey || !talk.card?.hears) return;
  event.preventDefault();
  if (event.repeat) return;
  if (free()) toggle();
  else hold();
});
addEventListener("keyup", (event) => {
  if (!isTalkKey(event)) return;
  event.preventDefault();
  letGo();
});
addEventListener("blur", letGo);
document.addEventListener("visibilitychange", () => document.hidden && letGo());

// settings

for (const choice of document.querySelectorAll("input[name=mode]")) {
  choice.addEventListener("change", () => {
    letGo();
    inOrder(async () => {
      talk.endListening();
      socket.send("input_audio_buffer.clear");
      talk.microphone?.close();
      talk.configure();
      showButton();
      view.activity("");
      view.welcome(talk.card, settings().mode);
    });
  });
}
find("voice").addEventListener("change", () => {
  if (!find("voice").value) talk.breakOff(false);
  talk.configure();
});

// typing and recordings

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value.trim();
  if (!text || !socket.isOpen) return;
  find("text").value = "";
  view.noError();
  inOrder(async () => {
    await wakeSound();
    talk.type(text);
  });
});

for (const idea of find("ideas").children) {
  idea.addEventListener("click", () => {
    find("text").value = idea.textContent;
    find("composer").requestSubmit();
  });
}

function send(file) {
  if (!file || !socket.isOpen) return;
  view.noError();
  inOrder(async () => {
    view.activity("Reading the recording");
    await wakeSound();
    const { bytes, seconds } = await decoded(file);
    talk.upload(bytes, file.name, seconds);
  });
}

find("upload").addEventListener("change", ({ target }) => {
  send(target.files[0]);
  target.value = "";
});
let depth = 0; // of elements that are dragged over
const draggable = (event) => talk.card?.hears && event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!draggable(event)) return;
  depth++;
  find("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (draggable(event) && --depth <= 0) endDrag();
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  endDrag();
  if (talk.card?.hears) send(event.dataTransfer.files[0]);
});

function endDrag() {
  depth = 0;
  find("drop").hidden = true;
}

// connecting again

find("reconnect").addEventListener("click", () => {
  view.divide("Connected again; the model starts anew");
  connect();
});
find("anew").addEventListener("click", () => {
  talk.restart();
  talk.microphone?.close();
  showButton();
  view.divide("New talk");
  connect();
});
find("alert-close").addEventListener("click", () => view.noError());
find("key-dialog").addEventListener("cancel", () => view.error("Without an API key this server does not talk.", true));
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, find("key").value.trim());
  find("key-dialog").close();
  connect();
});

connect();
