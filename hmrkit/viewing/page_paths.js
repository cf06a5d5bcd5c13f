// Paths of pelvis, wrists and ankles through the world: the last second, or the whole clip.

const MOST_STEPS = 3000; // of a path through the whole clip; a longer one leaves frames out
const LAST_S = 1, LIGHT = [0.6, 0, 0, -0.4, -0.4]; // of each joint's path: towards white, or black

class Paths {
  constructor(data, painter) {
    Object.assign(this, { data, painter, count: data.frames.values.length });
    this.known = new Map(); // of a skeleton: its joints in the world, which frames hang together, and the kept lines
  }

  of(person, skeleton) {
    if (!this.known.has(skeleton)) {
      const { pathJoints, takes } = this.data, { shotStarts } = takes[person.take], rows = person.rows.values, joints = skeleton.places.shape[1];
      const starts = new Set(shotStarts), run = new Int32Array(this.count).fill(-1);
      const points = Array.from(rows, (row) => {
        if (row < 0) return null;
        const root = triple(skeleton.roots, row);
        return pathJoints.map((j) => moved(this.painter.worldFromCamera, add(root, triple(skeleton.places, row * joints + j))));
      });
      for (let i = 0, number = 0; i < this.count; i++) {
        if (!points[i]) continue;
        run[i] = i && points[i - 1] && !starts.has(i) ? number : ++number;
      }
      this.known.set(skeleton, { points, run });
    }
    return this.known.get(skeleton);
  }

  // Lines from frame to frame; `fade`: older ones paler.
  lines({ points, run }, colour, first, last, step, fade) {
    const lines = [], tints = LIGHT.map((light) => colour.map((c) => light > 0 ? c + (1 - c) * light : c * (1 + light)));
    for (let i = first; i + step <= last; i += step) {
      if (run[i] < 0 || run[i] !== run[i + step]) continue;
      const opacity = fade ? 0.15 + 0.85 * (i + step - first) / (last - first) : 0.8;
      tints.forEach((tint, k) => lines.push([points[i][k], points[i + step][k], [...tint, opacity]]));
    }
    return lines;
  }

  draw(kind, person, skeleton, colour, frame, width) {
    const known = this.of(person, skeleton), times = this.data.times.values;
    if (kind === "second") {
      let first = frame;
      while (first > 0 && times[first - 1] >= times[frame] - LAST_S - 1e-6) first--;
      this.painter.drawLines(this.lines(known, colour, first, frame, 1, true), width);
    } else {
      known.kept ||= this.painter.keepLines(this.lines(known, colour, 0, this.count - 1, Math.ceil(this.count / MOST_STEPS), false));
      this.painter.drawKept(known.kept, width);
    }
  }
}
