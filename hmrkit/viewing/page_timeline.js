// The timeline: a lane a person. A bar where they are seen, paler where keypoints are less sure; lines under it while
// the left and the right foot stand.

const GROUND = "#1b1c20", FEET = ["#7fd0ff", "#ffb27f"];
const LANES_PX = 150, LANE_PX = [6, 20]; // height of all lanes at most, of one at least and at most

const css = (c) => `rgb(${c.join(",")})`;

class Timeline {
  constructor(canvas, data, go) {
    Object.assign(this, { canvas, data, count: data.frames.values.length });
    this.still = document.createElement("canvas"); // all but the cursor, drawn only when it changes
    const lane = Math.max(LANE_PX[0], Math.min(LANE_PX[1], LANES_PX / Math.max(data.people.length, 1)));
    this.height = Math.max(34, Math.round(lane * data.people.length));
    canvas.style.height = `${this.height}px`;
    const at = (event) => {
      const box = canvas.getBoundingClientRect(), across = (event.clientX - box.left) / box.width;
      const person = data.people[Math.floor((event.clientY - box.top) / box.height * data.people.length)];
      return [Math.max(0, Math.min(this.count - 1, Math.floor(across * this.count))), person];
    };
    canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); go(at(event)[0]); };
    canvas.onpointermove = (event) => {
      const [frame, person] = at(event);
      if (event.buttons) go(frame);
      canvas.title = this.words(frame, person);
    };
  }

  // What is known of a person in a frame.
  words(frame, person) {
    const row = person ? person.rows.values[frame] : -1, number = `frame ${this.data.frames.values[frame]}`;
    if (row < 0) return number;
    const sure = person.confidence.values[row], stands = ["left", "right"].filter((_, k) => person.contact.values[2 * row + k]);
    return [number, `person ${person.id} ${this.data.takes[person.take].name}`.trim(), `confidence ${Number.isNaN(sure) ? "unknown" : sure.toFixed(2)}`,
      `standing: ${stands.join(", ") || "no foot"}`].join("\n");
  }

  draw(frame, ratio) {
    const { canvas, still, data } = this;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(this.height * ratio);
    const state = [width, height, ...data.people.map((p) => p.shown)].join();
    if (this.state !== state) {
      this.state = state;
      for (const each of [canvas, still]) Object.assign(each, { width, height });
      const pen = still.getContext("2d"), lane = height / Math.max(data.people.length, 1);
      pen.fillStyle = GROUND;
      pen.fillRect(0, 0, width, height);
      data.people.forEach((person, k) => this.drawLane(pen, person, k * lane, lane, width));
    }
    const pen = canvas.getContext("2d");
    pen.drawImage(still, 0, 0);
    pen.fillStyle = "#fff";
    pen.fillRect((frame + 0.5) / this.count * width - ratio, 0, 2 * ratio, height);
  }

  drawLane(pen, person, top, lane, width) {
    const rows = person.rows.values, dim = person.shown ? 1 : 0.3;
    const bars = (valueOf, colour, from, to) => {
      pen.fillStyle = colour;
      for (let i = 0, begin = 0, value = 0; i <= rows.length; i++) {
        const now = i < rows.length && rows[i] >= 0 ? valueOf(rows[i]) : 0;
        if (now === value) continue;
        pen.globalAlpha = value * dim;
        if (value) pen.fillRect(begin / this.count * width, top + from * lane, (i - begin) / this.count * width, (to - from) * lane);
        [begin, value] = [i, now];
      }
      pen.globalAlpha = 1;
    };
    const shade = (row) => { const c = person.confidence.values[row]; return 0.25 + 0.75 * Math.round(20 * (Number.isNaN(c) ? 0.5 : c)) / 20; };
    bars(shade, css(person.colour), 0.1, 0.6);
    FEET.forEach((colour, side) => bars((row) => person.contact.values[2 * row + side], colour, 0.67 + 0.16 * side, 0.78 + 0.16 * side));
  }
}
