// The lists at the side: people (of two takes: who is who) and the takes' legend, each with a box to hide them.

// One entry a line: the person, or the two that are one in two takes.
function groupsOf(data) {
  if (data.takes.length < 2) return data.people.map((person) => ({ people: [person], title: `person ${person.id}` }));
  const find = (take, id) => data.people.find((p) => p.take === take && p.id === id);
  return data.pairs.map(([first, second, title]) => ({ people: [find(0, first), find(1, second)].filter(Boolean), title }));
}

const colourDot = (colour) => {
  const made = document.createElement("span");
  made.className = "dot";
  made.style.background = css(colour);
  return made;
};

function boxed(parts, changed) {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.onchange = changed;
  label.append(box, ...parts);
  return { label, box };
}

class People {
  constructor(viewer) {
    const { data } = viewer, changed = () => this.update();
    Object.assign(this, { viewer, groups: groupsOf(data) });
    data.people = this.groups.flatMap((group) => group.people); // those who are one lie under each other
    $("has-takes").hidden = data.takes.length < 2;
    for (const [k, take] of data.takes.entries()) {
      const person = data.people.find((p) => p.take === k);
      Object.assign(take, boxed([...(person ? [colourDot(person.colour)] : []), take.name], changed));
      $("takes").append(take.label);
    }
    for (const group of this.groups) {
      Object.assign(group, boxed([...group.people.map((p) => colourDot(p.colour)), group.title], changed));
      group.line = document.createElement("div");
      group.line.className = "person";
      group.look = document.createElement("button");
      group.look.onclick = () => viewer.followPerson(group.people[0]);
      group.line.append(group.label, group.look);
      $("people").append(group.line);
    }
    this.update();
  }

  update() {
    for (const { people, box } of this.groups)
      for (const person of people) person.shown = box.checked && this.viewer.data.takes[person.take].box.checked;
    this.viewer.dirty = true;
  }

  mark(frame, followed) {
    for (const { people, line, look } of this.groups) {
      line.classList.toggle("absent", people.every((p) => p.rows.values[frame] < 0));
      look.textContent = followed && people.includes(followed) ? "leave" : "follow";
    }
  }
}
