// The programs of the graphics card (WebGL 2): bodies skinned and calibrated in the vertex shader, lines, the picture.

const BODY_SHADER = `#version 300 es
precision highp float; precision highp sampler2D; precision highp isampler2D;
uniform vec4 pose[${POSE_SIZE}];
uniform sampler2D weights;   // 16 vertices a row, 24 texels each: skin weight of joint j; A and A W of the bone to it
uniform isampler2D shapes;   // 9 vertices a row, 207 texels each
uniform float shapeScale;
uniform bool calibrated;
uniform vec3 root;
uniform mat4 worldFromCamera, clipFromWorld;
layout(location = 0) in vec3 rest;
layout(location = 1) in vec3 restNormal;
layout(location = 2) in uvec2 follows; // bits of the joints that bend this vertex's shape, and that carry it: few
out vec3 place;              // camera frame, about the root
out vec3 inWorld;
out vec3 normal;
void main() {
  vec3 shaped = rest;
  ivec2 at = ivec2(gl_VertexID % 9 * 207, gl_VertexID / 9);
  vec3 bend = vec3(0);
  for (int j = 0; j < 23; j++) {
    if ((follows.x >> j & 1u) == 0u) continue;
    for (int k = 9 * j; k < 9 * j + 9; k++) bend += pose[${FEATURES_AT} + k / 4][k % 4] * vec3(texelFetch(shapes, at + ivec2(k, 0), 0).xyz);
  }
  vec4 p = vec4(shaped + shapeScale * bend, 1.0);
  at = ivec2(gl_VertexID % 16 * 24, gl_VertexID / 16);
  vec3 v = vec3(0), n = vec3(0);
  for (int j = 0; j < 24; j++) {
    if ((follows.y >> j & 1u) == 0u) continue;
    float w = texelFetch(weights, at + ivec2(j, 0), 0).x;
    vec4 a = pose[3 * j], b = pose[3 * j + 1], c = pose[3 * j + 2];
    v += w * vec3(dot(a, p), dot(b, p), dot(c, p));
    n += w * vec3(dot(a.xyz, restNormal), dot(b.xyz, restNormal), dot(c.xyz, restNormal));
  }
  if (calibrated) {
    vec4 q = vec4(v, 1.0);
    vec3 shift = vec3(0), turn = vec3(0);
    for (int i = 0; i < 23; i++) {
      if ((follows.y >> (i + 1) & 1u) == 0u) continue;
      vec3 share = texelFetch(weights, at + ivec2(i + 1, 0), 0).yzw;
      vec4 a = pose[${BONES_AT} + 3 * i], b = pose[${BONES_AT} + 3 * i + 1], c = pose[${BONES_AT} + 3 * i + 2];
      shift += share.x * vec3(dot(a, q), dot(b, q), dot(c, q)) + share.y * pose[${STRETCHES_AT} + i].xyz;
      turn += share.x * vec3(dot(a.xyz, n), dot(b.xyz, n), dot(c.xyz, n));
    }
    v += shift;
    n += turn;
  }
  place = v;
  inWorld = (worldFromCamera * vec4(v + root, 1.0)).xyz;
  normal = mat3(worldFromCamera) * n;
  gl_Position = clipFromWorld * vec4(inWorld, 1.0);
}`;

const BODY_COLOUR = `#version 300 es
precision highp float;
uniform vec3 colour, eye;
uniform bool ghost;
in vec3 place, inWorld, normal;
out vec4 result;
void main() {
  // Every other pixel: two meshes that nearly coincide are both seen, in whatever order they are drawn.
  if (ghost && ((int(gl_FragCoord.x) / 2 + int(gl_FragCoord.y) / 2) & 1) == 0) discard;
  vec3 n = normalize(normal), look = normalize(eye - inWorld);
  if (dot(n, look) < 0.0) n = gl_FrontFacing ? n : -n;
  float head = max(dot(n, look), 0.0), sky = 0.5 + 0.5 * n.y, sun = max(dot(n, normalize(vec3(0.4, 0.9, 0.35))), 0.0);
  vec3 lit = colour * (0.18 + 0.32 * head + 0.22 * sky + 0.38 * sun) + 0.05 * pow(head, 24.0);
  result = vec4(lit, 1.0);
}`;

const LINE_SHADER = `#version 300 es
uniform mat4 clipFromWorld;
uniform vec2 thick;          // half a line's width in clip units, per axis; 0: the line as it is
layout(location = 0) in vec3 from;
layout(location = 1) in vec3 to;
layout(location = 2) in vec2 corner;
layout(location = 3) in vec4 tint;
out vec4 colour;
void main() {
  vec4 a = clipFromWorld * vec4(from, 1.0), b = clipFromWorld * vec4(to, 1.0);
  // An end behind the eye comes before it along the line: divided by a w below 0 it would lie on the wrong side.
  const float least = 0.05;
  if (a.w < least && b.w > least) a = mix(a, b, (least - a.w) / (b.w - a.w));
  else if (b.w < least && a.w > least) b = mix(b, a, (least - b.w) / (a.w - b.w));
  vec2 way = (b.xy / b.w - a.xy / a.w) / thick;
  way = length(way) > 1e-6 ? normalize(way) : vec2(1, 0);
  vec4 p = corner.x < 0.5 ? a : b;
  p.xy += (vec2(-way.y, way.x) * corner.y + way * (2.0 * corner.x - 1.0)) * thick * p.w;
  colour = tint;
  gl_Position = p;
}`;

const LINE_COLOUR = `#version 300 es
precision highp float;
in vec4 colour;
out vec4 result;
void main() { result = colour; }`;

const PICTURE_SHADER = `#version 300 es
uniform mat4 clipFromWorld;
layout(location = 0) in vec3 corner;
layout(location = 1) in vec2 uv;
out vec2 where;
void main() { where = uv; gl_Position = clipFromWorld * vec4(corner, 1.0); }`;

const PICTURE_COLOUR = `#version 300 es
precision highp float;
uniform sampler2D picture;
in vec2 where;
out vec4 result;
void main() { result = texture(picture, where); }`;
