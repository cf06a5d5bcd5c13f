// What is drawn, by WebGL 2: bodies, lines, the picture.

// Of a line's corner: both ends, which end and side, tint.
const LINE_SIZES = [3, 3, 2, 4];

function lineNumbers(lines) {
  const out = new Float32Array(72 * lines.length);
  let at = 0;
  for (const [from, to, tint] of lines)
    for (const corner of [[0, -1], [1, -1], [0, 1], [0, 1], [1, -1], [1, 1]])
      for (const part of [from, to, corner, tint]) { out.set(part, at); at += part.length; }
  return out;
}

class Painter {
  constructor(canvas, data) {
    const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser has no WebGL 2.");
    Object.assign(this, { gl, canvas, data });
    this.body = this.program(BODY_SHADER, BODY_COLOUR, ["place"]);
    this.line = this.program(LINE_SHADER, LINE_COLOUR);
    this.card = this.program(PICTURE_SHADER, PICTURE_COLOUR);
    this.buffer = gl.createBuffer();
    this.picture = this.texture(gl.LINEAR);
    this.hasPicture = false;
    this.worldFromCamera = fromRows(data.worldFromCamera);
    for (const person of data.people) person.body = data.bodies[data.takes[person.take].body];
    for (const body of data.bodies) this.upload(body, data.people.filter((person) => person.body === body));
  }

  program(vertex, fragment, kept = []) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    if (kept.length) gl.transformFeedbackVaryings(program, kept, gl.SEPARATE_ATTRIBS);
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    const at = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const name = gl.getActiveUniform(program, i).name.replace("[0]", "");
      at[name] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }

  texture(filter) {
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, filter);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    return texture;
  }

  upload(body, people) {
    const gl = this.gl, count = body.weights.shape[0], rows = Math.ceil(count / 16);
    const texels = new Float32Array(rows * 16 * 24 * 4);
    for (let v = 0; v < count; v++) for (let j = 0; j < 24; j++) {
      const at = 4 * (24 * v + j);
      texels[at] = body.weights.values[24 * v + j] * body.weights.scale;
      if (j === 0 || !body.attachment) continue;
      const share = body.attachment.values[23 * v + j - 1] * body.attachment.scale;
      texels[at + 1] = share;
      texels[at + 2] = share * body.place.values[23 * v + j - 1] * body.place.scale;
    }
    const follows = gl.createBuffer(), bits = new Uint32Array(2 * count), shapes = body.shapes.values;
    for (let v = 0; v < count; v++) {
      for (let i = 0; i < 621; i++) if (shapes[621 * v + i]) bits[2 * v] |= 1 << Math.floor(i / 27);
      for (let j = 0; j < 24; j++) if (texels[4 * (24 * v + j)] || texels[4 * (24 * v + j) + 1]) bits[2 * v + 1] |= 1 << j;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, follows);
    gl.bufferData(gl.ARRAY_BUFFER, bits, gl.STATIC_DRAW);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    body.weightsTexture = this.texture(gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, 16 * 24, rows, 0, gl.RGBA, gl.FLOAT, texels);
    const shapeRows = Math.ceil(count / 9), bends = new Int16Array(shapeRows * 9 * 207 * 3);
    bends.set(body.shapes.values);
    body.shapesTexture = this.texture(gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB16I, 9 * 207, shapeRows, 0, gl.RGB_INTEGER, gl.SHORT, bends);
    const faces = gl.createBuffer();
    for (const person of people) {
      person.mesh = gl.createVertexArray();
      gl.bindVertexArray(person.mesh);
      const normals = restNormals(person.restVertices.values, body.faces.values);
      [person.restVertices.values, normals].forEach((values, location) => {
        gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
        gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
        gl.enableVertexAttribArray(location);
        gl.vertexAttribPointer(location, 3, gl.FLOAT, false, 0, 0);
      });
      gl.bindBuffer(gl.ARRAY_BUFFER, follows);
      gl.enableVertexAttribArray(2);
      gl.vertexAttribIPointer(2, 2, gl.UNSIGNED_INT, 0, 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, faces);
    }
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, body.faces.values, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
  }

  clear() {
    const gl = this.gl;
    gl.clearColor(0.105, 0.11, 0.125, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  // Draws from here on go to an area of the canvas: [left, bottom, width, height].
  begin(clipFromWorld, eye, area) {
    const gl = this.gl;
    Object.assign(this, { clipFromWorld, eye, area });
    gl.viewport(...area);
    gl.enable(gl.DEPTH_TEST);
  }

  setBody(person, row, calibrated) {
    const gl = this.gl, at = this.body.at, { body } = person;
    const pose = poseOf(person, row, calibrated, body.parents);
    gl.useProgram(this.body.program);
    gl.uniform4fv(at.pose, pose.numbers);
    gl.uniform3fv(at.root, pose.root);
    gl.uniform1i(at.calibrated, calibrated);
    gl.uniform1f(at.shapeScale, body.shapes.scale);
    gl.uniformMatrix4fv(at.worldFromCamera, false, this.worldFromCamera);
    gl.uniformMatrix4fv(at.clipFromWorld, false, this.clipFromWorld);
    [["weights", body.weightsTexture], ["shapes", body.shapesTexture]].forEach(([name, texture], slot) => {
      gl.activeTexture(gl.TEXTURE0 + slot);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(at[name], slot);
    });
    gl.activeTexture(gl.TEXTURE0);
    gl.bindVertexArray(person.mesh);
    return pose;
  }

  drawBody(person, row, calibrated, colour, ghost) {
    const gl = this.gl;
    this.setBody(person, row, calibrated);
    gl.uniform3fv(this.body.at.colour, colour);
    gl.uniform3fv(this.body.at.eye, this.eye);
    gl.uniform1i(this.body.at.ghost, ghost);
    gl.drawElements(gl.TRIANGLES, person.body.faces.values.length, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
  }

  // What the vertex shader makes of a person, (V x 3) metres in the camera frame: for checks and for saving.
  vertices(person, row, calibrated) {
    const gl = this.gl, count = person.restVertices.shape[0], kept = gl.createBuffer(), out = new Float32Array(3 * count);
    this.clipFromWorld ||= product(this.worldFromCamera, this.worldFromCamera);
    const { root } = this.setBody(person, row, calibrated);
    gl.bindBuffer(gl.TRANSFORM_FEEDBACK_BUFFER, kept);
    gl.bufferData(gl.TRANSFORM_FEEDBACK_BUFFER, out.byteLength, gl.STREAM_READ);
    gl.bindBufferBase(gl.TRANSFORM_FEEDBACK_BUFFER, 0, kept);
    gl.enable(gl.RASTERIZER_DISCARD);
    gl.beginTransformFeedback(gl.POINTS);
    gl.drawArrays(gl.POINTS, 0, count);
    gl.endTransformFeedback();
    gl.disable(gl.RASTERIZER_DISCARD);
    gl.bindBufferBase(gl.TRANSFORM_FEEDBACK_BUFFER, 0, null);
    gl.bindBuffer(gl.TRANSFORM_FEEDBACK_BUFFER, kept);
    gl.getBufferSubData(gl.TRANSFORM_FEEDBACK_BUFFER, 0, out);
    gl.bindBuffer(gl.TRANSFORM_FEEDBACK_BUFFER, null);
    gl.deleteBuffer(kept);
    gl.bindVertexArray(null);
    for (let i = 0; i < out.length; i++) out[i] += root[i % 3];
    return out;
  }

  // Lines [from, to, [r, g, b, a]] of a width in pixels; `above`: never hidden.
  drawLines(lines, width, above = false) {
    const numbers = lineNumbers(lines);
    this.stream(numbers, LINE_SIZES);
    this.strokes(numbers.length / 12, width, above);
  }

  // Lines that stay on the graphics card, for `drawKept`.
  keepLines(lines) {
    const gl = this.gl, numbers = lineNumbers(lines), array = gl.createVertexArray();
    gl.bindVertexArray(array);
    this.stream(numbers, LINE_SIZES, gl.createBuffer());
    gl.bindVertexArray(null);
    return { array, count: numbers.length / 12 };
  }

  drawKept(kept, width) {
    this.gl.bindVertexArray(kept.array);
    this.strokes(kept.count, width, false);
    this.gl.bindVertexArray(null);
  }

  strokes(count, width, above) {
    const gl = this.gl;
    gl.useProgram(this.line.program);
    gl.uniformMatrix4fv(this.line.at.clipFromWorld, false, this.clipFromWorld);
    gl.uniform2f(this.line.at.thick, width / this.area[2], width / this.area[3]);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    if (above) gl.disable(gl.DEPTH_TEST);
    gl.drawArrays(gl.TRIANGLES, 0, count);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
  }

  setPicture(bitmap) {
    const gl = this.gl;
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    this.hasPicture = true;
  }

  // The picture on four corners (top left, top right, bottom left, bottom right) in the world; `behind` all else.
  drawPicture(corners, behind) {
    const gl = this.gl, uv = [[0, 0], [1, 0], [0, 1], [1, 1]], numbers = [];
    for (const k of [0, 2, 1, 1, 2, 3]) numbers.push(...corners[k], ...uv[k]);
    gl.useProgram(this.card.program);
    gl.uniformMatrix4fv(this.card.at.clipFromWorld, false, this.clipFromWorld);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.uniform1i(this.card.at.picture, 0);
    this.stream(new Float32Array(numbers), [3, 2]);
    gl.depthMask(!behind);
    gl.drawArrays(gl.TRIANGLES, 0, 6);
    gl.depthMask(true);
  }

  stream(numbers, sizes, buffer = this.buffer) {
    const gl = this.gl, total = sizes.reduce((a, b) => a + b);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.STREAM_DRAW);
    let at = 0;
    sizes.forEach((size, location) => {
      gl.enableVertexAttribArray(location);
      gl.vertexAttribPointer(location, size, gl.FLOAT, false, 4 * total, 4 * at);
      at += size;
    });
  }
}
