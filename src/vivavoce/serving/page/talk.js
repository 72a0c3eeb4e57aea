// A conversation over the socket: what the user does becomes events, and events become what is seen and heard.

import { fromBase64, toBase64 } from "./socket.js";

const RATE = 24000;
const SILENCE_MS = 500; // this long a pause ends a turn in hands-free mode
const SHORTEST_MS = 200; // of a press that counts

export class Talk {
  // parts: { view, wave, socket, settings() -> { mode, voice }, canPlay }
  constructor({ view, wave, socket, settings, canPlay }) {
    Object.assign(this, { view, wave, socket, settings, canPlay });
    this.microphone = null;
    this.player = null;
    this.card = null;
    this.restart();
  }

  restart() {
    this.player?.stop();
    this.sent = 0; // samples of the microphone since the session began
    this.anchor = null; // performance.now() of the session's first sample, if it had been sent all along
    this.speechEnd = null; // performance.now() when the user was done
    this.response = null; // id of the one that is being made
    this.latency = new Map(); // item id -> { end, text, audio, ... }
    this.stopped = new Set(); // items whose speech was broken off
    this.unread = null; // item of a file whose transcript may come with the answer
    this.pending = null; // bubble of what is being said with the button held
    this.endListening();
  }

  configure() {
    const { mode, voice } = this.settings();
    const { hears, speaks, id } = this.card;
    const audio = {};
    if (hears) {
      const free = {
        type: "server_vad", silence_duration_ms: SILENCE_MS, create_response: true, interrupt_response: true,
      };
      audio.input = {
        format: { type: "audio/pcm", rate: RATE },
        transcription: { model: id },
        turn_detection: mode === "free" ? free : null,
      };
    }
    const spoken = speaks && voice && this.canPlay;
    if (spoken) audio.output = { format: { type: "audio/pcm", rate: RATE }, voice };
    const session = { type: "realtime", output_modalities: [spoken ? "audio" : "text"], audio };
    this.socket.send("session.update", { session });
  }

  // the user

  async listen() {
    await this.microphone.start();
    this.anchor = null;
    this.microphone.open = true;
  }

  endListening() {
    if (this.microphone) this.microphone.open = false;
    this.anchor = null;
  }

  // A piece of the microphone, 24 kHz.
  hear({ bytes, peak, samples }) {
    this.wave.hear(peak);
    this.sent += samples;
    const anchor = performance.now() - (1000 * this.sent) / RATE;
    this.anchor = this.anchor === null ? anchor : Math.min(this.anchor, anchor);
    this.socket.send("input_audio_buffer.append", { audio: toBase64(bytes) });
  }

  async press() {
    this.breakOff(true);
    this.pressed = this.sent;
    await this.listen();
    this.pending = `here_${crypto.randomUUID()}`;
    this.view.wait(this.pending, "user", "Listening");
  }

  async release() {
    const end = performance.now();
    await this.microphone.finish();
    if ((1000 * (this.sent - this.pressed)) / RATE < SHORTEST_MS) {
      this.forget();
      return false;
    }
    this.speechEnd = end;
    if (this.pending) this.view.wait(this.pending, "user", "Heard");
    this.socket.send("input_audio_buffer.commit");
    this.answer();
    return true;
  }

  forget() {
    this.socket.send("input_audio_buffer.clear");
    if (this.pending) this.view.remove(this.pending);
    this.pending = null;
  }

  type(text) {
    this.ask({ type: "input_text", text }, text);
  }

  upload(bytes, name, seconds) {
    this.ask({ type: "input_audio", audio: toBase64(bytes) }, "Recording");
    this.unread = this.asked;
    this.view.note(this.asked, "user", [[`${name}, ${seconds.toFixed(1)} s`, ""]]);
  }

  ask(content, shown) {
    this.breakOff(true);
    this.asked = `item_${crypto.randomUUID().replaceAll("-", "").slice(0, 20)}`;
    this.view.say(this.asked, "user", shown, true);
    this.socket.send("conversation.item.create", {
      item: { id: this.asked, type: "message", role: "user", content: [content] },
    });
    this.speechEnd = performance.now();
    this.answer();
  }

  answer() {
    this.socket.send("response.create");
    this.view.activity("Thinking");
  }

  // The user goes on: silence at once, and the model is told how much of its answer was heard.
  breakOff(cancel) {
    if (cancel && this.response) this.socket.send("response.cancel");
    const cut = this.player?.stop();
    if (!cut) return;
    this.stopped.add(cut.answer);
    this.socket.send("conversation.item.truncate", {
      item_id: cut.answer, content_index: 0, audio_end_ms: cut.heardMs,
    });
    const turn = this.latency.get(cut.answer);
    if (turn) turn.cut = cut.heardMs;
    this.show(cut.answer);
  }

  // the server

  take(event) {
    const handler = HANDLERS[event.type];
    if (handler) handler.call(this, event);
  }

  userItem(id) {
    if (this.pending && !this.view.has(id)) this.view.rename(this.pending, id);
    this.pending = null;
    if (!this.view.has(id)) this.view.wait(id, "user", "Heard");
  }

  first(id, what, at = performance.now()) {
    const turn = this.latency.get(id);
    if (!turn || turn[what] !== undefined || turn.end === null) return;
    turn[what] = Math.max(0, Math.round(at - turn.end));
    this.show(id);
  }

  show(id) {
    const turn = this.latency.get(id);
    if (!turn) return;
    const parts = [];
    const facts = {};
    for (const [key, name] of [["text", "first words"], ["audio", "voice"]]) {
      if (turn[key] === undefined) continue;
      parts.push([name, `${turn[key]} ms`]);
      facts[`${key}Ms`] = turn[key];
    }
    if (turn.gaps) parts.push([turn.gaps === 1 ? "1 gap" : `${turn.gaps} gaps`, ""]);
    if (turn.cut !== undefined) {
      parts.push([`interrupted after ${(turn.cut / 1000).toFixed(1)} s`, ""]);
      facts.cutMs = turn.cut;
    } else if (turn.status === "cancelled") parts.push(["interrupted", ""]);
    if (turn.status === "incomplete") parts.push(["cut at the longest answer", ""]);
    this.view.note(id, "model", parts, facts);
  }

  // the player

  begun(id, at) {
    this.first(id, "audio", at);
    this.view.activity("Speaking");
  }

  progress(id, { peak, gaps }) {
    this.wave.speak(peak);
    const turn = this.latency.get(id);
    if (turn && turn.gaps !== gaps) {
      turn.gaps = gaps;
      this.show(id);
    }
  }

  ended(id, { played, given, gaps, end }) {
    if (!this.view.has(id)) return;
    this.view.turn(id, "model");
    Object.assign(this.view.turn(id, "model").place.dataset, { played, given, gaps, playback: end });
    this.view.activity(this.idle());
  }

  idle() {
    return this.settings().mode === "free" && this.microphone?.open ? "Listening" : "";
  }
}

const HANDLERS = {
  "session.created"() {
    this.configure();
  },

  "input_audio_buffer.speech_started"({ item_id }) {
    this.breakOff(false); // the server ends the answer itself
    this.view.wait(item_id, "user", "Listening");
    this.view.activity("Listening to you");
  },

  "input_audio_buffer.speech_stopped"({ item_id, audio_end_ms }) {
    // By the clock of the samples, without the silence that told the server that the turn was over.
    const now = performance.now();
    const end = this.anchor === null ? now : this.anchor + audio_end_ms - SILENCE_MS;
    this.speechEnd = Math.min(end, now);
    this.view.wait(item_id, "user", "Heard");
    this.view.activity("Thinking");
  },

  "input_audio_buffer.committed"({ item_id }) {
    this.userItem(item_id);
  },

  "conversation.item.added"({ item }) {
    if (item.role !== "user") return;
    this.userItem(item.id);
    const text = item.content.map((part) => part.text ?? part.transcript ?? "").join("");
    if (text) this.view.say(item.id, "user", text, true);
  },

  "conversation.item.input_audio_transcription.delta"({ item_id, delta }) {
    this.view.say(item_id, "user", delta);
  },

  "conversation.item.input_audio_transcription.completed"({ item_id, transcript }) {
    this.view.say(item_id, "user", transcript, true);
    this.view.announce(`You said: ${transcript}`);
  },

  "conversation.item.input_audio_transcription.failed"({ item_id }) {
    this.view.say(item_id, "user", "(a recording)", true);
  },

  "conversation.item.truncated"({ item_id }) {
    this.socket.send("conversation.item.retrieve", { item_id });
  },

  // What the model keeps of an answer that was broken off, or what it heard in a file.
  "conversation.item.retrieved"({ item }) {
    const text = item.content.map((part) => part.transcript ?? "").join("");
    if (this.stopped.has(item.id)) this.view.cut(item.id, text);
    else if (item.role === "user" && text) this.view.say(item.id, "user", text, true);
  },

  "conversation.item.deleted"({ item_id }) {
    this.view.remove(item_id);
  },

  "response.created"({ response }) {
    this.response = response.id;
  },

  "response.output_item.added"({ item }) {
    this.latency.set(item.id, { end: this.speechEnd });
    this.view.wait(item.id, "model", "");
  },

  "response.output_text.delta"({ item_id, delta }) {
    this.view.say(item_id, "model", delta);
    this.first(item_id, "text");
  },

  "response.output_audio_transcript.delta"(event) {
    HANDLERS["response.output_text.delta"].call(this, event);
  },

  "response.output_audio.delta"({ item_id, delta }) {
    if (this.player && !this.stopped.has(item_id)) this.player.push(item_id, fromBase64(delta));
  },

  "response.output_audio.done"({ item_id }) {
    this.player?.complete(item_id);
  },

  "response.done"({ response }) {
    if (this.response === response.id) this.response = null;
    if (this.unread) this.socket.send("conversation.item.retrieve", { item_id: this.unread });
    this.unread = null;
    for (const { id } of response.output ?? []) {
      this.player?.complete(id);
      const turn = this.latency.get(id);
      if (turn) turn.status = response.status;
      this.show(id);
      const bubble = this.view.has(id) && this.view.turn(id, "model");
      if (bubble && !bubble.text.trim()) this.view.remove(id);
      else if (bubble) this.view.announce(`Model: ${bubble.text}`);
    }
    if (response.status === "failed") {
      this.view.error(response.status_details?.error?.message ?? "The model could not answer.");
    }
    if (!this.player?.playing && !this.response) this.view.activity(this.idle());
  },

  error({ error }) {
    if (error.code === "response_cancel_not_active") return; // it ended while we asked
    this.view.error(error.message);
  },
};
