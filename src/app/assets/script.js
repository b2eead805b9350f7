'use strict';
// Digits to show of each end of a number: millions take seconds to lay out.
const SHOWN = 2000;

const $ = id => document.getElementById(id);
const write = (id, text) => { $(id).textContent = text };
const say = text => write('status', text);
const format = number => number.toLocaleString('en');
const rounded = number => format(+number.toPrecision(3));
const duration = s => s < 1e-3 ? rounded(s * 1e6) + ' µs' : s < 1 ? rounded(s * 1e3) + ' ms' : rounded(s) + ' s';

let digits = '', request;

async function show() {
  const n = $('n').value.replace(/[\s,_]/g, '');
  const path = '/api/fibonacci/' + encodeURIComponent(n);
  request?.abort();
  const own = request = new AbortController();
  // Most numbers are here before anyone could stop them.
  const late = setTimeout(() => { $('stop').hidden = $('progress').hidden = false }, 150);
  $('n').ariaInvalid = null;
  say(`Computing F(${n}) …`);
  try {
    performance.clearResourceTimings();
    const requestStart = performance.now();
    const response = await fetch(path, { headers: { Accept: 'text/plain' }, signal: own.signal });
    const responseStart = performance.now();
    if (response.ok) {
      digits = await receive(response, n);
      // The browser's own record lacks the delays of this thread, but may come later.
      present(n, path, performance.getEntriesByName(response.url)[0] ?? { requestStart, responseStart });
    } else fail(await response.text(), response.headers.get('Retry-After'));
  } catch {
    if (own === request) say(own.signal.aborted ? 'Stopped.' : 'The server cannot be reached.');
  }
  clearTimeout(late);
  if (own === request) {
    if (document.activeElement === $('stop')) $('n').focus();
    $('stop').hidden = $('progress').hidden = true;
  }
}

function fail(text, retry) {
  say(text.trim() + (retry ? ` in ${retry} s` : ''));
  if (!retry) $('n').ariaInvalid = true;
  $('n').focus();
}

async function receive(response, n) {
  const decoder = new TextDecoder();
  let text = '';
  // Content-Length may be that of compressed digits. Their number is from Binet's formula.
  $('progress').max = n * .20898764 + 1;
  for await (const chunk of response.body) {
    text += decoder.decode(chunk);
    $('progress').value = text.length;
  }
  return text;
}

function present(n, path, { requestStart, responseStart }) {
  const name = `F(${format(+n)})`, count = format(digits.length);
  write('name', name);
  write('count', count);
  write('computed', duration((responseStart - requestStart) / 1e3));
  write('curl', 'curl ' + location.origin + path);
  $('download').href = path;
  $('download').download = `fibonacci-${n}.txt`;
  $('result').hidden = false;
  history.replaceState(null, '', '#' + n);
  layOut();
  say(`${name} has ${count} digit${count === '1' ? '' : 's'}.`);
}

// Makes lines of as many groups of ten as there is room for, each with the position of its first digit.
function layOut() {
  const room = $('digits').clientWidth / parseFloat(getComputedStyle($('digits')).fontSize) / .61;
  const width = format(digits.length).length;
  const length = 10 * ([10, 5, 4, 3, 2].find(groups => width + 11 * groups <= room) ?? 1);
  const skipped = Math.ceil((digits.length - 2 * SHOWN) / length) * length;
  const lines = [];
  const add = (mark, text) => {
    const line = document.createElement('span');
    line.dataset.at = mark.padEnd(width);
    line.textContent = text;
    lines.push(line);
  };
  for (let at = 0; at < digits.length; at += length) {
    if (at === SHOWN && skipped > 0) {
      add('…', `${format(skipped)} digits omitted`);
      at += skipped;
    }
    add(format(at + 1), digits.slice(at, at + length).replace(/.{10}(?=.)/g, '$& '));
  }
  $('digits').replaceChildren(...lines);
}

// Requests per second, every five seconds.
const rates = Array(60).fill(0);
let before;

// Updates the figures, if this port has metrics. They are hidden while the server cannot be reached.
async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch('/metrics');
    $('live').hidden = !response.ok;
    if (response.ok) draw(await response.text());
    else if (response.status === 404) clearInterval(timer);
  } catch {
    $('live').hidden = true;
  }
}

function draw(metrics) {
  const values = name => [...metrics.matchAll(new RegExp(`^fibsrv_${name} (\\S+)$`, 'gm'))].map(match => +match[1]);
  const sum = name => values(name).reduce((a, b) => a + b);
  write('connections', format(sum('connections')));
  write('workers', format(sum('workers')));

  const now = { at: performance.now(), requests: sum('requests_total{handler="(?!metrics).*') };
  rates.push(before ? Math.max(0, now.requests - before.requests) / (now.at - before.at) * 1e3 : 0);
  rates.shift();
  before = now;
  write('rate', chart('rates', rates, 1, rounded(rates.at(-1))));

  const below = values('request_duration_seconds_bucket{handler="fibonacci".*'), all = below.at(-1);
  const p99 = below.findIndex(count => count >= .99 * all);
  // The bounds are 1, 2.5, 5, 10, 25, … µs.
  const bound = 1e-6 * [1, 2.5, 5][p99 % 3] * 10 ** Math.floor(p99 / 3);
  write('p99', chart('latencies', below.map((count, i) => count - (below[i - 1] ?? 0)), .8, all ? duration(bound) : '–'));
}

function chart(id, values, width, label) {
  const most = Math.max(1, ...values);
  $(id).firstChild.setAttribute('d', values.map((value, i) => `M${i} 30v${-28 * value / most}h${width}V30z`).join(''));
  return $(id).ariaLabel = label;
}

function follow() {
  if (location.hash) $('n').value = location.hash.slice(1);
  show();
}

document.forms[0].onsubmit = event => {
  event.preventDefault();
  show();
};
$('stop').onclick = () => request.abort();
$('copy').onclick = async () => {
  try {
    // There is no clipboard without HTTPS, except on localhost.
    await navigator.clipboard.writeText(digits);
    say(`Copied ${format(digits.length)} digits.`);
  } catch {
    say('The browser forbids this. Use Download.');
  }
};
onhashchange = follow;
onresize = layOut;
const timer = setInterval(refresh, 5000);
refresh();
follow();
