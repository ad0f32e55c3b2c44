// Draws the charts of the page, in the colors of the reader's light or dark mode.
const shared = document.getElementById('shared').textContent;
const FIT = {type: 'fit', contains: 'padding'};
const LARGE = 1500; // rows from which a canvas is faster than elements
const CONFIG = JSON.stringify({
  background: null, font: getComputedStyle(document.body).fontFamily, view: {stroke: null},
  axis: {
    labelColor: 'var(--soft)', titleColor: 'var(--soft)', gridColor: 'var(--rule)',
    tickColor: 'var(--rule)', domain: false, labelFontSize: 12, titleFontSize: 13,
    titleFontWeight: 'normal', labelOverlap: 'greedy', labelSeparation: 12, titlePadding: 8,
  },
  axisX: {grid: false, tickCount: 8}, axisY: {grid: true, ticks: false, tickCount: 6},
  text: {color: 'var(--ink)', fontSize: 12}, line: {strokeWidth: 2},
});

// Replaces the names of colors by what they are in this mode, which a canvas needs.
const paint = text => {
  const known = {}, root = document.documentElement;
  const read = name => { root.style.color = name; return getComputedStyle(root).color; };
  return text.replace(/var\(--\w+\)/g, name => known[name] ??= read(name));
};

// Turns columns into the rows that Vega takes, in all layers, and counts them.
const fill = (layers, common) => layers.reduce((rows, {data}) => {
  const columns = common[data.name] ?? data.values, names = Object.keys(columns);
  data.values = columns[names[0]].map((_, i) => Object.fromEntries(
    names.map(name => [name, columns[name][i]])));
  delete data.name;
  return rows + data.values.length;
}, 0);

async function draw(place) {
  const spec = JSON.parse(paint(place.querySelector('script').textContent));
  const renderer = fill(spec.layer, JSON.parse(paint(shared))) > LARGE ? 'canvas' : 'svg';
  const box = place.querySelector('div') ?? place.appendChild(document.createElement('div'));
  const size = {width: 'container', height: place.clientHeight, autosize: FIT};
  const options = {actions: false, ast: true, config: JSON.parse(paint(CONFIG)), renderer};
  place.view = (await vegaEmbed(box, {...size, ...spec}, options)).view;
}

async function drawAll() {
  for (const place of document.querySelectorAll('.chart')) {
    await draw(place);
    await new Promise(resolve => setTimeout(resolve)); // the reader may scroll meanwhile
  }
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
drawAll();
