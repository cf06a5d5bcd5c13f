"use strict";
// Vectors are arrays of 3, rotations 9 numbers row by row, 4x4 matrices Float32Arrays column by column (as WebGL).

const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const mul = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => mul(a, 1 / Math.max(Math.hypot(...a), 1e-9));

function rotationOf(w, x, y, z) {
  const n = 1 / (Math.hypot(w, x, y, z) || 1);
  w *= n; x *= n; y *= n; z *= n;
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
  ];
}

const turned = (r, v) => [0, 3, 6].map((i) => r[i] * v[0] + r[i + 1] * v[1] + r[i + 2] * v[2]);

// transpose(a) @ b of two rotations
function relative(a, b) {
  const out = [];
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) out.push(a[i] * b[j] + a[3 + i] * b[3 + j] + a[6 + i] * b[6 + j]);
  return out;
}

function product(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++) {
    let sum = 0;
    for (let k = 0; k < 4; k++) sum += a[4 * k + r] * b[4 * c + k];
    out[4 * c + r] = sum;
  }
  return out;
}

const fromRows = (m) => new Float32Array([0, 1, 2, 3].flatMap((c) => [m[c], m[4 + c], m[8 + c], m[12 + c]]));
const moved = (m, p) => [0, 1, 2].map((r) => m[r] * p[0] + m[4 + r] * p[1] + m[8 + r] * p[2] + m[12 + r]);

// Inverse of a rigid transform.
function rigidInverse(m) {
  const rows = [0, 1, 2].map((r) => [m[4 * r], m[4 * r + 1], m[4 * r + 2]]);
  const t = rows.map((row) => -dot(row, [m[12], m[13], m[14]]));
  return fromRows([...rows[0], t[0], ...rows[1], t[1], ...rows[2], t[2], 0, 0, 0, 1]);
}

function lookAt(eye, target, up) {
  const z = unit(sub(eye, target)), x = unit(cross(up, z)), y = cross(z, x);
  return fromRows([...x, -dot(x, eye), ...y, -dot(y, eye), ...z, -dot(z, eye), 0, 0, 0, 1]);
}

function perspective(fovY, aspect, near, far) {
  const f = 1 / Math.tan(fovY / 2);
  return fromRows([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), 2 * far * near / (near - far), 0, 0, -1, 0]);
}

// Clip space from the filming camera's own axes (x right, y down, z forward), its picture fitted into the canvas.
function pinhole(camera, width, height, near, far) {
  const [w, h] = camera.size, fit = Math.min(width / w, height / h);
  const sx = 2 * fit / width, sy = 2 * fit / height;
  return fromRows([
    camera.focal[0] * sx, 0, (camera.center[0] - w / 2) * sx, 0,
    0, -camera.focal[1] * sy, -(camera.center[1] - h / 2) * sy, 0,
    0, 0, (far + near) / (far - near), -2 * far * near / (far - near),
    0, 0, 1, 0,
  ]);
}
