// The page: people, toggles, the orbiting camera.

const $ = (id) => document.getElementById(id);
const FAR = 400, NEAR = 0.05;

class Viewer {
  constructor(data) {
    this.data = data;
    this.people = new People(this);
    this.painter = new Painter($("scene"), data);
    this.paths = new Paths(data, this.painter);
    this.timeline = new Timeline($("line"), data, (frame) => this.go(frame));
    this.count = data.frames.values.length;
    this.frame = 0;
    this.playing = false;
    this.through = false;
    this.dirty = true;
    this.follow = null;
    this.bitmaps = new Map();
    this.cameraFromWorld = rigidInverse(this.painter.worldFromCamera);
    this.eyeOfCamera = moved(this.painter.worldFromCamera, [0, 0, 0]);
    const any = (part) => data.people.some((p) => p[part]);
    for (const part of ["goal", "lifted"]) $("has-" + part).hidden = !any(part);
    $("has-pictures").hidden = !data.pictures;
    $("posed").checked = !any("goal");
    if (!any("goal")) $("goal").checked = false;
    this.frame = Math.max(0, this.firstSeen());
    this.home();
    this.listen();
    $("say").textContent = data.people.length ? "" : "Nobody with a mesh in this take.";
    this.last = performance.now();
    this.clock = 0;
    requestAnimationFrame((now) => this.tick(now));
  }

  firstSeen() {
    const rows = this.data.people.map((p) => p.rows.values);
    for (let i = 0; i < this.count; i++) if (rows.some((r) => r[i] >= 0)) return i;
    return 0;
  }

  // Where a person's root is in the world at a frame, or null.
  placeOf(person, frame) {
    const row = person.rows.values[frame];
    if (row < 0) return null;
    return moved(this.painter.worldFromCamera, triple((person.goal || person.posed).roots, row));
  }

  home() {
    const places = [];
    for (const person of this.data.people)
      for (let i = 0; i < this.count; i += Math.max(1, this.count >> 7)) { const p = this.placeOf(person, i); if (p) places.push(p); }
    const middle = (axis) => places.map((p) => p[axis]).sort((a, b) => a - b)[places.length >> 1];
    this.target = places.length ? [middle(0), middle(1), middle(2)] : moved(this.painter.worldFromCamera, [0, 0, 4]);
    const reach = places.map((p) => Math.hypot(...sub(p, this.target))).sort((a, b) => a - b)[Math.floor(places.length * 0.9)] || 0;
    this.distance = Math.min(30, 3.2 + 1.6 * reach);
    this.middle = this.target;
    this.reach = Math.max(Math.hypot(...sub(this.eyeOfCamera, this.target)), 1);
    this.yaw = 0.55;
    this.pitch = 0.22;
    this.follow = null;
    this.through = false;
    this.dirty = true;
  }

  followPerson(person) {
    this.follow = this.follow === person ? null : person;
    this.through = false;
    this.distance = Math.min(this.distance, 4.5);
    if (this.follow && person.rows.values[this.frame] < 0) this.go(person.rows.values.findIndex((r) => r >= 0));
    this.dirty = true;
  }

  listen() {
    for (const id of ["posed", "goal", "lifted", "pictures", "ground"]) $(id).onchange = () => { this.dirty = true; };
    $("play").onclick = () => this.play(!this.playing);
    $("through").onclick = () => { this.through = !this.through; this.dirty = true; };
    $("save").onclick = () => saveJoints(this.data);
    $("reset").onclick = () => this.home();
    addEventListener("resize", () => { this.dirty = true; });
    for (const id of ["speed", "paths", "arrange"]) $(id).onchange = () => { $(id).blur(); this.dirty = true; }; // keys are the page's again
    listenToKeys(this);
    const scene = $("scene"), pointers = new Map();
    scene.oncontextmenu = (event) => event.preventDefault();
    scene.onpointerdown = (event) => { pointers.set(event.pointerId, event); scene.setPointerCapture(event.pointerId); };
    scene.onpointerup = scene.onpointercancel = (event) => pointers.delete(event.pointerId);
    scene.onpointermove = (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      pointers.set(event.pointerId, event);
      this.through = false;
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const span = (e) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
        this.distance *= span(before) / Math.max(span(event), 1);
      } else if (event.buttons & 2 || event.buttons & 4 || event.shiftKey) {
        const { right, up } = this.axes(), step = this.distance / scene.clientHeight;
        this.target = add(this.target, add(mul(right, -dx * step), mul(up, dy * step)));
        this.follow = null;
      } else {
        this.yaw -= dx * 0.006;
        this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + dy * 0.006));
      }
      this.dirty = true;
    };
    scene.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.through = false;
      this.distance = Math.max(0.3, Math.min(150, this.distance * Math.exp(event.deltaY * 0.0012)));
      this.dirty = true;
    }, { passive: false });
  }

  go(frame) {
    this.frame = Math.max(0, Math.min(this.count - 1, frame));
    this.clock = 0;
    this.dirty = true;
  }

  nextPaths() {
    const list = $("paths");
    list.selectedIndex = (list.selectedIndex + 1) % list.length;
    this.dirty = true;
  }

  play(on) {
    this.playing = on;
    this.clock = 0;
    $("play").textContent = on ? "❚❚ pause" : "▶ play";
  }

  // Seconds until the next frame of the timeline, by the frames' own times.
  shownFor(frame) {
    const times = this.data.times.values;
    return frame + 1 < this.count ? Math.max(times[frame + 1] - times[frame], 1e-4) : 1 / this.data.fps;
  }

  tick(now) {
    const passed = Math.min((now - this.last) / 1000, 0.25);
    this.last = now;
    if (this.playing) {
      this.clock += passed * Number($("speed").value);
      while (this.clock >= this.shownFor(this.frame)) {
        this.clock -= this.shownFor(this.frame);
        this.frame = (this.frame + 1) % this.count;
        this.dirty = true;
      }
    }
    if (this.dirty) { this.dirty = false; this.draw(); }
    requestAnimationFrame((next) => this.tick(next));
  }

  axes() {
    const back = [Math.sin(this.yaw) * Math.cos(this.pitch), Math.sin(this.pitch), Math.cos(this.yaw) * Math.cos(this.pitch)];
    const right = unit(cross([0, 1, 0], back));
    return { back, right, up: cross(back, right) };
  }

  // The filming camera in this frame, as a take has it.
  lens(take) {
    const { camera } = take, zoom = camera.zoom ? camera.zoom[this.frame] : 1;
    return { ...camera, focal: camera.focal.map((f) => f * zoom) };
  }

  // Clip space from the world on `width` x `height` pixels, and the eye.
  look(take, width, height) {
    if (this.through) return { clip: product(pinhole(this.lens(take), width, height, NEAR, FAR), this.cameraFromWorld), eye: this.eyeOfCamera };
    if (this.follow) this.target = this.placeOf(this.follow, this.frame) || this.target;
    const eye = add(this.target, mul(this.axes().back, this.distance));
    return { clip: product(perspective(0.8, width / height, NEAR, FAR), lookAt(eye, this.target, [0, 1, 0])), eye };
  }

  draw() {
    const canvas = $("scene"), ratio = devicePixelRatio || 1, { data, frame } = this;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.painter.clear();
    const beside = data.takes.length > 1 && $("arrange").value === "beside", half = Math.floor(width / 2);
    if (beside) data.takes.forEach((take, k) => this.drawTakes([take], [k * half, 0, half, height], ratio));
    else this.drawTakes(data.takes, [0, 0, width, height], ratio);
    this.people.mark(frame, this.follow);
    const seconds = data.times.values[frame] - data.times.values[0];
    $("time").textContent = this.count ? `frame ${data.frames.values[frame]}   ${seconds.toFixed(2)} s` : "";
    $("through").textContent = this.through ? "leave the camera" : "through the camera";
    this.timeline.draw(frame, ratio);
  }

  // Takes over each other in a part of the canvas: [left, bottom, width, height] in pixels.
  drawTakes(takes, area, ratio) {
    const { painter, data, frame } = this, all = takes.map((take) => this.look(take, area[2], area[3]));
    painter.begin(all[0].clip, all[0].eye, area);
    const card = this.corners(takes[0], this.through ? FAR * 0.5 : this.reach * 0.3);
    if ($("pictures").checked && data.pictures && this.pictureOf(frame)) painter.drawPicture(card, this.through);
    if ($("ground").checked) painter.drawLines(this.surroundings(this.through ? null : card), ratio);
    takes.forEach((take, k) => {
      painter.begin(all[k].clip, all[k].eye, area); // through the camera, each take has its own lens
      for (const person of data.people) if (data.takes[person.take] === take && person.shown) this.drawPerson(person, ratio);
    });
  }

  drawPerson(person, ratio) {
    const { painter, frame } = this, row = person.rows.values[frame], colour = person.colour.map((c) => c / 255);
    if ($("paths").value) this.paths.draw($("paths").value, person, this.skeletonOf(person), colour, frame, 2.5 * ratio);
    if (row < 0) return;
    const final = $("goal").checked, ghost = final && person.goal; // who is not calibrated has one mesh
    if (final) painter.drawBody(person, row, Boolean(person.goal), colour, false);
    if ($("posed").checked && (ghost || !final)) painter.drawBody(person, row, false, ghost ? [0.85, 0.85, 0.88] : mul(add(colour, [0.5, 0.5, 0.5]), 0.6), Boolean(ghost));
    if (!$("lifted").checked || !person.lifted) return;
    const bones = this.skeleton(person, row, colour);
    painter.drawLines(bones.map(([a, b]) => [a, b, [0, 0, 0, 0.7]]), 6 * ratio, true);
    painter.drawLines(bones, 3.5 * ratio, true);
  }

  // The final skeleton where it is shown, else the generator's.
  skeletonOf(person) {
    return person.goal && $("goal").checked ? person.goal : person.posed;
  }

  // The lifted pose has no place of its own: its root stands where the person's pelvis is.
  skeleton(person, row, colour) {
    const { lifted } = person, count = lifted.places.shape[1];
    const root = triple(this.skeletonOf(person).roots, row);
    const at = (j) => moved(this.painter.worldFromCamera, add(root, triple(lifted.places, row * count + j)));
    return lifted.bones.map(([a, b]) => [at(a), at(b), [...colour.map((c) => 0.45 + 0.55 * c), 1]]);
  }

  // The picture's corners in the world, `depth` m before the camera.
  corners(take, depth) {
    const { focal, center, size } = this.lens(take);
    return [[0, 0], [size[0], 0], [0, size[1]], size].map(([u, v]) =>
      moved(this.painter.worldFromCamera, [(u - center[0]) / focal[0] * depth, (v - center[1]) / focal[1] * depth, depth]));
  }

  surroundings(card) {
    const lines = [];
    if (this.data.leveled) {
      const [x, , z] = this.middle.map(Math.round), half = Math.max(6, Math.min(25, Math.ceil(this.reach)));
      for (let i = -half; i <= half; i++) {
        const tint = [1, 1, 1, i % 5 === 0 ? 0.26 : 0.1];
        lines.push([[x + i, 0, z - half], [x + i, 0, z + half], tint], [[x - half, 0, z + i], [x + half, 0, z + i], tint]);
      }
    }
    if (card) for (const [a, b] of [[0, 1], [1, 3], [3, 2], [2, 0], [0], [1], [2], [3]])
      lines.push([card[a], b === undefined ? this.eyeOfCamera : card[b], [1, 0.8, 0.4, 0.75]]);
    return lines;
  }

  // Puts the frame's picture up if it is ready; else asks for it and, until it comes, keeps the one before.
  pictureOf(frame) {
    const ready = this.bitmaps.get(frame);
    if (ready === undefined) this.fetchPicture(frame);
    else if (ready && this.onCard !== frame) { this.painter.setPicture(ready); this.onCard = frame; }
    if (this.playing) for (let k = 1; k < 6; k++) this.fetchPicture((frame + k) % this.count);
    return ready !== null && this.painter.hasPicture;
  }

  fetchPicture(frame) {
    if (this.bitmaps.has(frame)) return;
    const { bytes, ends } = this.data.pictures, from = frame ? ends.values[frame - 1] : 0;
    this.bitmaps.set(frame, null);
    if (ends.values[frame] === from) return;
    this.bitmaps.set(frame, false);
    createImageBitmap(new Blob([bytes.values.subarray(from, ends.values[frame])], { type: "image/webp" })).then((bitmap) => {
      this.bitmaps.set(frame, bitmap);
      if (this.bitmaps.size > 64) {
        const oldest = this.bitmaps.keys().next().value;
        this.bitmaps.get(oldest)?.close?.();
        this.bitmaps.delete(oldest);
      }
      if (frame === this.frame) this.dirty = true;
    });
  }
}

readBlock($("data").textContent).then((data) => {
  $("data").textContent = "";
  globalThis.viewer = new Viewer(data);
}).catch((error) => { $("say").textContent = `Cannot show this take: ${error.message}`; });
