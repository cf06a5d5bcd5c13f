// The joints that the page holds, as JSON for other programs: metres in the page's world, y up.

function jointsOf(data) {
  const world = fromRows(data.worldFromCamera), tenths = (v) => v.map((x) => Math.round(x * 1e4) / 1e4);
  const people = data.people.filter((person) => person.shown).map((person) => {
    const skeleton = person.goal || person.posed, frames = [], places = [];
    person.rows.values.forEach((row, i) => {
      if (row < 0) return;
      const root = triple(skeleton.roots, row);
      frames.push(data.frames.values[i]);
      places.push(joints(skeleton, row).map((place) => tenths(moved(world, add(root, place)))));
    });
    return { take: data.takes[person.take].name, id: person.id, calibrated: Boolean(person.goal), frames, joints: places };
  });
  const { title, fps, leveled, jointNames } = data;
  return { title, fps, origin: leveled ? "ground" : "camera", units: "m", up: "y", jointNames, people };
}

function saveJoints(data) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(jointsOf(data))], { type: "application/json" }));
  link.download = `${data.title.replace(/\.[^.]*$/, "")}_joints.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
