'use strict';

// Anchors: a link beside each heading, to itself.
for (const h of document.querySelectorAll('main :is(h2, h3, h4)[id]')) {
  const a = document.createElement('a');
  a.className = 'anchor';
  a.href = '#' + h.id;
  a.textContent = '#';
  a.setAttribute('aria-label', 'Link to this heading');
  h.append(a);
}

// Copying: of a block with prompts, what is typed behind them; of others, all.
function typed(pre) {
  const commands = [...pre.querySelectorAll('kbd')].map((k) => k.textContent);
  return commands.length ? commands.join('\n') : pre.querySelector('code').textContent.replace(/\n$/, '');
}

function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea'); // pages from a directory have no clipboard of the new kind
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done ? Promise.resolve() : Promise.reject(new Error('not allowed'));
}

for (const pre of document.querySelectorAll('pre')) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Copy';
  button.addEventListener('click', () => copy(typed(pre)).then(
    () => { button.textContent = 'Copied'; },
    () => { button.textContent = 'Select it by hand'; },
  ));
  button.addEventListener('blur', () => { button.textContent = 'Copy'; });
  pre.append(button);
}

// Search: every word must be there; headings count most.
const query = document.getElementById('query');
const found = document.getElementById('found');
const root = document.body.dataset.root;

function score(p, words) {
  let sum = 0;
  for (const w of words) {
    const inHeading = p.h.toLowerCase().includes(w), inPage = p.p.toLowerCase().includes(w), inText = p.t.toLowerCase().includes(w);
    if (!inHeading && !inPage && !inText) return 0;
    sum += (inHeading ? 20 : 0) + (inPage ? 5 : 0) + (inText ? 1 : 0);
  }
  return sum;
}

function excerpt(p, word) {
  const at = p.t.toLowerCase().indexOf(word);
  const from = at > 40 ? at - 40 : 0;
  return (from ? '… ' : '') + p.t.slice(from, from + 160);
}

function result(p, words) {
  const li = document.createElement('li'), a = document.createElement('a'), b = document.createElement('b'), s = document.createElement('span');
  a.href = root + p.u;
  b.textContent = p.h === p.p ? p.p : p.p + ' › ' + p.h;
  s.textContent = excerpt(p, words[0]);
  a.append(b, s);
  li.append(a);
  return li;
}

function look() {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  found.hidden = words.length === 0;
  const hits = words.length === 0 ? [] : window.passages.map((p) => [score(p, words), p]).filter(([n]) => n > 0)
    .sort((a, b) => b[0] - a[0]).slice(0, 12);
  found.replaceChildren(...hits.map(([, p]) => result(p, words)));
  if (!hits.length) {
    const none = document.createElement('p');
    none.textContent = 'Nothing has all of these words.';
    found.append(none);
  }
}

function move(by) {
  const all = [...found.querySelectorAll('a')];
  if (!all.length) return;
  const now = all.findIndex((a) => a.classList.contains('chosen'));
  const next = (now + by + all.length) % all.length;
  all.forEach((a, i) => a.classList.toggle('chosen', i === next));
  all[next].scrollIntoView({ block: 'nearest' });
}

query.addEventListener('input', look);
query.addEventListener('keydown', (e) => {
  if (e.key === 'ArrowDown') { move(1); e.preventDefault(); }
  if (e.key === 'ArrowUp') { move(-1); e.preventDefault(); }
  if (e.key === 'Enter') { (found.querySelector('a.chosen') || found.querySelector('a'))?.click(); }
  if (e.key === 'Escape') { query.value = ''; look(); query.blur(); }
});
document.addEventListener('keydown', (e) => {
  if (e.key === '/' && !e.target.matches('input, textarea')) { query.focus(); e.preventDefault(); }
});
document.addEventListener('click', (e) => { if (!e.target.closest('.search')) found.hidden = true; });
