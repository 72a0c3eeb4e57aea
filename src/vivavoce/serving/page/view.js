// What is on the page: bubbles, notes, messages, states. No decisions here.

const find = (id) => document.getElementById(id);

export const CONNECTION = { connecting: "Connecting", open: "Connected", closed: "Not connected" };

export class View {
  constructor() {
    this.turns = new Map(); // item id -> elements
    this.atEnd = true; // else the user reads what is above
    const scroll = find("scroll");
    scroll.addEventListener("scroll", () => {
      this.atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
    });
    new ResizeObserver(() => this.toEnd()).observe(scroll);
  }

  // conversation

  // The bubble of an item; it is made where it is not there yet.
  turn(id, role) {
    let turn = this.turns.get(id);
    if (turn) return turn;
    const place = document.createElement("li");
    place.className = `turn ${role}`;
    const who = document.createElement("span");
    who.className = "unseen";
    who.textContent = role === "user" ? "You: " : "Model: ";
    const bubble = document.createElement("div");
    bubble.className = "bubble waiting";
    const note = document.createElement("p");
    note.className = "note";
    place.append(who, bubble, note);
    turn = { place, bubble, note, text: "" };
    this.turns.set(id, turn);
    find("welcome").hidden = true;
    find("log").append(place);
    this.atEnd ||= role === "user";
    this.toEnd();
    return turn;
  }

  has(id) {
    return this.turns.has(id);
  }

  // Another id for a bubble that was made before the server named it.
  rename(from, to) {
    const turn = this.turns.get(from);
    if (!turn) return;
    this.turns.delete(from);
    if (this.turns.has(to)) turn.place.remove();
    else this.turns.set(to, turn);
  }

  remove(id) {
    this.turns.get(id)?.place.remove();
    this.turns.delete(id);
  }

  say(id, role, text, whole = false) {
    const turn = this.turn(id, role);
    turn.text = whole ? text : turn.text + text;
    turn.bubble.textContent = turn.text.trim() || (whole ? "(nothing)" : "");
    turn.bubble.classList.toggle("waiting", !turn.text.trim() && !whole);
    this.toEnd();
  }

  wait(id, role, text) {
    const turn = this.turn(id, role);
    if (turn.text) return;
    turn.bubble.textContent = text;
    turn.bubble.classList.add("waiting");
  }

  // Dims what was not heard.
  cut(id, heard) {
    const { bubble, text } = this.turn(id, "model");
    const whole = text.trim();
    if (!whole.startsWith(heard.trim())) return;
    const rest = document.createElement("span");
    rest.className = "unheard";
    rest.textContent = whole.slice(heard.trim().length);
    bubble.replaceChildren(heard.trim(), rest);
  }

  // parts: [[text, number or ""], ...]
  note(id, role, parts, facts = {}) {
    const { place, note } = this.turn(id, role);
    Object.assign(place.dataset, facts);
    note.replaceChildren();
    parts.forEach(([text, strong], n) => {
      if (n) note.append(" · ");
      note.append(text);
      if (strong) {
        const number = document.createElement("b");
        number.textContent = strong;
        note.append(" ", number);
      }
    });
    this.toEnd();
  }

  divide(text) {
    if (!find("log").children.length) return;
    const line = document.createElement("li");
    line.className = "divider";
    line.textContent = text;
    find("log").append(line);
    this.turns.clear();
    this.toEnd();
  }

  announce(text) {
    find("announce").textContent = text;
  }

  toEnd() {
    const scroll = find("scroll");
    if (this.atEnd) scroll.scrollTop = scroll.scrollHeight;
  }

  // states

  connection(state) {
    find("connection").dataset.state = state;
    find("connection-text").textContent = CONNECTION[state];
    const open = state === "open";
    for (const id of ["talk", "text", "send", "upload"]) find(id).disabled = !open;
    find("anew").hidden = find("ideas").hidden = !open;
  }

  activity(text) {
    const line = find("activity");
    if (line.textContent !== text) line.textContent = text;
  }

  // The talk button: pressed while it listens; it stops where a click would stop it.
  button(pressed, stops, label) {
    const button = find("talk");
    button.setAttribute("aria-pressed", String(pressed));
    button.classList.toggle("stops", stops);
    find("talk-label").textContent = label;
  }

  error(text, reconnect = false) {
    find("alert-text").textContent = text;
    find("reconnect").hidden = !reconnect;
    find("alert").hidden = false;
  }

  noError() {
    find("alert").hidden = true;
  }

  // What the model can do decides what is there.
  model(card, canPlay) {
    find("model").textContent = card.id;
    find("talk-part").hidden = !card.hears && !card.speaks;
    for (const part of [".modes", ".button-place"]) document.querySelector(part).hidden = !card.hears;
    find("upload-part").hidden = !card.hears;
    find("text").placeholder = card.hears ? "Or type here" : "Type here";
    const speaks = card.speaks && canPlay;
    find("voices").hidden = !speaks;
    find("wave").hidden = !card.hears && !speaks;
    const voices = card.voices.map((name) => new Option(name === "default" ? "Default voice" : name, name));
    const chosen = find("voice").value;
    const first = find("voice").options.length === 0;
    find("voice").replaceChildren(...voices, new Option("Text only", ""));
    if (!first && (chosen === "" || card.voices.includes(chosen))) find("voice").value = chosen;
  }

  welcome(card, mode) {
    find("welcome-title").textContent = card.hears ? "Say it aloud." : "Type a question.";
    const answer = card.speaks ? "answers aloud" : "answers in text";
    const how = mode === "free"
      ? "Press the button once, then just talk. You may interrupt."
      : `Hold the button${matchMedia("(hover: hover)").matches ? " or the space bar" : ""}, speak, and let go.`;
    find("welcome-text").textContent = card.hears ? `${how} ${card.id} ${answer}.` : `${card.id} cannot hear, but it ${answer}.`;
  }
}
