// The packed block, and the numbers that the vertex shader needs for one person in one frame.

async function readBlock(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const block = await new Response(stream).arrayBuffer();
  const length = new DataView(block).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(block, 4, length)));
  return unpacked(header, block, 4 + length);
}

const KINDS = { int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, float32: Float32Array, uint8: Uint8Array };

// Every entry that tells of an array becomes {values, scale, shape}.
function unpacked(entry, block, start) {
  if (Array.isArray(entry)) return typeof entry[0] === "object" ? entry.map((e) => unpacked(e, block, start)) : entry;
  if (entry === null || typeof entry !== "object") return entry;
  if (!("kind" in entry)) return Object.fromEntries(Object.entries(entry).map(([k, v]) => [k, unpacked(v, block, start)]));
  const count = entry.shape.reduce((a, b) => a * b, 1);
  const values = new KINDS[entry.kind](block, start + entry.at, count);
  if (entry.difference) {
    const step = count / (entry.shape[0] || 1);
    for (let i = step; i < count; i++) values[i] += values[i - step]; // wraps around, as it was written
  }
  return { values, scale: entry.scale, shape: entry.shape };
}

const triple = (array, index) => {
  const { values, scale } = array;
  return [values[3 * index] * scale, values[3 * index + 1] * scale, values[3 * index + 2] * scale];
};

function rotations(skeleton, row) {
  const { values, shape } = skeleton.turns, joints = shape[1], out = [];
  for (let j = 0, i = 4 * row * joints; j < joints; j++, i += 4) out.push(rotationOf(values[i], values[i + 1], values[i + 2], values[i + 3]));
  return out;
}

function joints(skeleton, row) {
  const count = skeleton.places.shape[1], out = [];
  for (let j = 0; j < count; j++) out.push(triple(skeleton.places, row * count + j));
  return out;
}

// 216 vec4: joints' transforms (24 x 3 rows), pose features (207, in 52), bones' moves (23 x 3 rows), stretches (23).
const FEATURES_AT = 72, BONES_AT = 124, STRETCHES_AT = 193, POSE_SIZE = 216;

// Everything is about the person's root, which `root` places in the camera frame.
function poseOf(person, row, calibrated, parents) {
  const out = new Float32Array(4 * POSE_SIZE);
  const turn = rotations(person.posed, row), from = joints(person.posed, row);
  for (let j = 0; j < turn.length; j++) {
    const shift = sub(from[j], turned(turn[j], triple(person.restJoints, j)));
    for (let r = 0; r < 3; r++) out.set([turn[j][3 * r], turn[j][3 * r + 1], turn[j][3 * r + 2], shift[r]], 4 * (3 * j + r));
    if (j === 0) continue;
    const local = relative(turn[parents[j]], turn[j]);
    for (let k = 0; k < 9; k++) out[4 * FEATURES_AT + 9 * (j - 1) + k] = local[k] - (k % 4 === 0 ? 1 : 0);
  }
  let root = triple(person.posed.roots, row);
  if (calibrated) {
    const psi = rotations(person.goal, row), to = joints(person.goal, row);
    for (let b = 0; b < psi.length; b++) {
      const above = parents[b + 1], p = psi[b];
      const shift = sub(to[above], turned(p, from[above]));
      const stretch = sub(sub(to[b + 1], to[above]), turned(p, sub(from[b + 1], from[above])));
      for (let r = 0; r < 3; r++) {
        const line = [p[3 * r], p[3 * r + 1], p[3 * r + 2], shift[r]];
        line[r] -= 1;
        out.set(line, 4 * (BONES_AT + 3 * b + r));
      }
      out.set(stretch, 4 * (STRETCHES_AT + b));
    }
    root = triple(person.goal.roots, row);
  }
  return { numbers: out, root };
}

// Unit normals of a mesh at rest; skinning turns them with the body.
function restNormals(vertices, faces) {
  const out = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [0, 1, 2].map((k) => vertices.subarray(3 * faces[f + k], 3 * faces[f + k] + 3));
    const n = cross(sub(b, a), sub(c, a));
    for (let k = 0; k < 3; k++) for (let axis = 0; axis < 3; axis++) out[3 * faces[f + k] + axis] += n[axis];
  }
  for (let v = 0; v < out.length; v += 3) out.set(unit(out.subarray(v, v + 3)), v);
  return out;
}
