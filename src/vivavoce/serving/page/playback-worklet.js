// 24 kHz speech from a ring of samples. It knows what it has played, and where it ran dry.

import { Resampler } from "./resampler.js";

const RATE = 24000;
const FADE_S = 0.006; // no click when it is stopped
const MOST_WAIT_S = 1.2;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(RATE, sampleRate);
    this.ring = new Float32Array(sampleRate * 16);
    this.wait = 0.12; // seconds gathered before it begins; more after each gap
    this.fade = Math.round(FADE_S * sampleRate);
    this.reported = 0;
    this.clear(null);
    this.port.onmessage = ({ data }) => this[data.call](data);
  }

  clear(answer) {
    this.answer = answer; // which answer is being played
    this.read = 0;
    this.written = 0;
    this.given = 0; // samples at 24 kHz
    this.gaps = 0;
    this.complete = false;
    this.playing = false;
    this.begun = false;
    this.dry = false;
    this.stopping = 0;
    this.peak = 0;
    this.resampler.reset();
  }

  begin({ answer }) {
    this.clear(answer);
  }

  push({ answer, samples }) {
    if (answer !== this.answer || this.stopping) return;
    if (this.dry) {
      this.dry = false;
      this.gaps++;
      this.wait = Math.min(MOST_WAIT_S, 2 * this.wait);
    }
    this.given += samples.length;
    this.write(this.resampler.push(samples));
  }

  end({ answer }) {
    if (answer !== this.answer || this.complete) return;
    this.write(this.resampler.flush());
    this.complete = true;
  }

  stop({ answer }) {
    if (answer !== this.answer) return;
    const left = this.written - this.read;
    this.stopping = this.playing ? Math.min(this.fade, left) : 0;
    this.written = this.read + this.stopping;
    this.complete = true;
    if (this.stopping === 0) this.finish("stopped");
  }

  write(samples) {
    if (this.written - this.read + samples.length > this.ring.length) this.grow(samples.length);
    for (const sample of samples) this.ring[this.written++ % this.ring.length] = sample;
  }

  grow(more) {
    const ring = new Float32Array(2 * (this.ring.length + more));
    for (let i = this.read; i < this.written; i++) ring[i % ring.length] = this.ring[i % this.ring.length];
    this.ring = ring;
  }

  process(_, outputs) {
    const output = outputs[0][0];
    if (this.answer === null) return true;
    const left = this.written - this.read;
    if (!this.playing && left > 0 && (this.complete || left >= this.wait * sampleRate)) {
      this.playing = true;
      if (!this.begun) this.port.postMessage({ answer: this.answer, begun: true });
      this.begun = true;
    }
    if (!this.playing) {
      if (this.complete && left === 0) this.finish("ended");
      return true;
    }
    const count = Math.min(output.length, left);
    for (let i = 0; i < count; i++) {
      let sample = this.ring[this.read++ % this.ring.length];
      if (this.stopping) sample *= (this.written - this.read) / this.fade;
      output[i] = sample;
      this.peak = Math.max(this.peak, Math.abs(sample));
    }
    if (this.read === this.written) {
      if (this.complete) {
        this.finish(this.stopping ? "stopped" : "ended");
        return true;
      }
      this.playing = false;
      this.dry = true; // a gap, if more comes
    }
    if (currentTime - this.reported >= 0.02) this.report();
    return true;
  }

  // Samples at 24 kHz that went to the device.
  get played() {
    if (this.complete && !this.stopping && this.read === this.written) return this.given;
    return Math.min(this.given, Math.round((this.read * RATE) / sampleRate));
  }

  report(end = null) {
    this.reported = currentTime;
    const { answer, played, given, gaps, peak } = this;
    this.port.postMessage({ answer, played, given, gaps, peak, end });
    this.peak = 0;
  }

  finish(end) {
    this.report(end);
    this.answer = null;
  }
}

registerProcessor("playback", Playback);
