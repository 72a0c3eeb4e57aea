// Plays answers, one at a time, through the playback worklet.

const RATE = 24000;

export class Player {
  // on: { begun(answer, at), progress(answer, state), ended(answer, state) }; `at` is performance.now() when heard.
  constructor(context, on) {
    this.context = context;
    this.on = on;
    this.answer = null;
    this.state = { played: 0, given: 0, gaps: 0, peak: 0 };
    this.node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => this.take(data);
    this.node.connect(context.destination);
  }

  // How late the device is, seconds: what the worklet has given away may not have been heard yet.
  get lateness() {
    return Math.min(0.5, this.context.outputLatency || this.context.baseLatency || 0);
  }

  get playing() {
    return this.answer !== null;
  }

  // Milliseconds of the answer that were heard.
  get heardMs() {
    return Math.max(0, Math.round((1000 * this.state.played) / RATE - 1000 * this.lateness));
  }

  push(answer, bytes) {
    if (answer !== this.answer) {
      this.stop();
      this.answer = answer;
      this.state = { played: 0, given: 0, gaps: 0, peak: 0 };
      this.node.port.postMessage({ call: "begin", answer });
    }
    const pcm = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const samples = new Float32Array(bytes.byteLength >> 1);
    for (let i = 0; i < samples.length; i++) samples[i] = pcm.getInt16(2 * i, true) / 32768;
    this.node.port.postMessage({ call: "push", answer, samples }, [samples.buffer]);
  }

  // No more will come.
  complete(answer) {
    if (answer === this.answer) this.node.port.postMessage({ call: "end", answer });
  }

  // Silence now. Gives the answer and the milliseconds of it that were heard, or null.
  stop() {
    if (this.answer === null) return null;
    const stopped = { answer: this.answer, heardMs: this.heardMs };
    this.node.port.postMessage({ call: "stop", answer: this.answer });
    this.answer = null;
    return stopped;
  }

  take(data) {
    if (data.begun) {
      this.on.begun(data.answer, performance.now() + 1000 * this.lateness);
      return;
    }
    if (data.answer === this.answer) {
      this.state = data;
      if (data.end) this.answer = null;
    }
    if (data.end) this.on.ended(data.answer, data);
    else this.on.progress(data.answer, data);
  }
}
