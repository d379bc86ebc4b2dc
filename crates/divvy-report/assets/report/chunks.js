// The page's rows: compressed chunks, in the page or in script files beside it, decoded when somebody looks.

/** Decoded chunks that are kept: a page of rows may need one for each row. */
const KEPT = 48;

function inflate(text) {
  const plain = atob(text);
  const bytes = new Uint8Array(plain.length);
  for (let at = 0; at < plain.length; at += 1) bytes[at] = plain.charCodeAt(at);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")));
}

// Files beside the page hand themselves in here.
const expected = new Map();
window.divvyChunk = (name, text) => expected.get(name)?.(text);

function fromFolder(folder, name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const done = (settle, value) => { script.remove(); expected.delete(name); settle(value); };
    expected.set(name, (text) => done(resolve, text));
    script.onerror = () => done(reject, new Error(
      `The rows lie in the folder “${folder}”, which must stand beside this page; ${name}.js cannot be read there.`));
    script.src = `${encodeURIComponent(folder)}/${name}.js`;
    document.head.append(script);
  });
}

function store(index) {
  const decoded = new Map();
  async function load(name) {
    // In the page it is called as its file would be: no table of a data set is called that.
    const here = () => document.getElementById(`${name}.js`).textContent;
    return inflate(index.folder ? await fromFolder(index.folder, name) : here()).json();
  }
  // The newest last; a chunk that is on its way is not asked for twice.
  return function chunk(name) {
    const found = decoded.get(name) ?? load(name);
    decoded.delete(name);
    decoded.set(name, found);
    found.catch(() => decoded.delete(name));
    if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
    return found;
  };
}

/** Everything about the rows that is known at once, and the way to the rest; nothing where the page has none. */
async function openRows() {
  const block = document.getElementById("rows-index");
  if (!block) return null;
  const index = JSON.parse(block.textContent);
  const states = new Uint8Array(await inflate(index.states).arrayBuffer());
  const chunk = store(index);
  const starts = [];
  index.sizes.reduce((start, size) => { starts.push(start); return start + size; }, 0);
  const arms = index.arms.length;
  const place = (question) => {
    let [low, high] = [0, starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= question) low = middle; else high = middle - 1;
    }
    return low;
  };
  return {
    arms: index.arms, words: index.words, states, starts, sizes: index.sizes,
    /** A row by its place: question times arms, plus arm. */
    async row(at) {
      const [question, arm] = [Math.floor(at / arms), at % arms];
      const number = place(question);
      const asked = (await chunk(`rows-${number}`))[question - starts[number]];
      return { at, number, asked, row: asked.rows.find((row) => row.arm === arm) };
    },
    questions: (number) => chunk(`rows-${number}`),
    calls: (number) => chunk(`calls-${number}`),
  };
}
