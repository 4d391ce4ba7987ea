// Unpacks a layer's tar into a directory, and never outside of it.
//
// Every part of a name is checked before it is used, and links are followed as in a chroot. No other
// program writes to the directory meanwhile, so the check is still true when the name is used.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { entries } from './tar.mjs';

const WHITEOUT = '.wh.';
const AUFS = '.wh..wh.';
const PUT_ASIDE = '.wh..wh.plnk'; // AUFS's targets of hard links, which are not part of the layer
const OPAQUE = '.wh..wh..opq';
const MOST_LINKS = 40;

// Returns the sum of the sizes in the headers.
export async function unpack(stream, root) {
  const made = new Set(); // paths of the layer's own entries, which its whiteouts do not delete
  const directories = new Map();
  const aside = `${root}.aside`;
  fs.mkdirSync(aside);
  let size = 0;
  for await (const entry of entries(stream)) {
    const parts = split(entry.name);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== '5') throw new Error(`${entry.name}: the root of a layer must be a directory`);
      directories.set(root, entry);
      continue;
    }
    if (parts.includes('..') || name === '..') throw new Error(`${entry.name} leads out of the layer`);
    if (parts[0] === PUT_ASIDE) {
      await make(aside, `${aside}/${name}`, entry);
      setMetadata(`${aside}/${name}`, entry);
      continue;
    }
    if (parts.some((part) => part.startsWith(AUFS))) continue;
    if (name === OPAQUE) {
      clear(directoryOf(root, parts), made);
      continue;
    }
    if (name.startsWith(AUFS)) continue;
    const directory = directoryOf(root, parts);
    if (name.startsWith(WHITEOUT)) {
      const gone = name.slice(WHITEOUT.length);
      if (['', '.', '..'].includes(gone)) throw new Error(`${entry.name} is a whiteout without a name`);
      erase(`${directory}/${gone}`, made);
      continue;
    }
    const path = `${directory}/${name}`;
    size += entry.size;
    await make(root, path, entry, aside);
    for (let own = path; own.length > root.length; own = own.slice(0, own.lastIndexOf('/'))) {
      made.add(own);
    }
    if (entry.type === '5') directories.set(path, entry);
    else {
      directories.delete(path);
      setMetadata(path, entry);
    }
  }
  // The deepest first: new entries in a directory change its time.
  for (const [path, entry] of [...directories].reverse()) {
    if (look(path)?.isDirectory()) setMetadata(path, entry);
  }
  fs.rmSync(aside, { recursive: true });
  return size;
}

// Names are bytes, one to a character.
function bytes(path) {
  return Buffer.from(path, 'latin1');
}

function split(name) {
  return name.split('/').filter((part) => part && part !== '.');
}

function look(path) {
  return fs.lstatSync(bytes(path), { throwIfNoEntry: false });
}

// Returns a directory of the layer. Missing directories are made; links are followed within the root.
function directoryOf(root, parts) {
  let todo = [...parts];
  let at = [];
  for (let links = 0; todo.length; ) {
    const part = todo.shift();
    if (part === '..') {
      at.pop();
      continue;
    }
    const path = [root, ...at, part].join('/');
    const found = look(path);
    if (!found) fs.mkdirSync(bytes(path), { mode: 0o755 });
    if (found?.isSymbolicLink()) {
      if (++links > MOST_LINKS) throw new Error(`${parts.join('/')}: too many symbolic links`);
      const target = fs.readlinkSync(bytes(path), { encoding: 'latin1' });
      if (target.startsWith('/')) at = [];
      todo = [...split(target), ...todo];
      continue;
    }
    if (found && !found.isDirectory()) throw new Error(`${parts.join('/')}: ${part} is not a directory`);
    at.push(part);
  }
  return [root, ...at].join('/');
}

// Deletes everything in a directory that came from the layers below.
function clear(directory, made) {
  for (const name of fs.readdirSync(bytes(directory), { encoding: 'buffer' })) {
    erase(`${directory}/${name.toString('latin1')}`, made);
  }
}

function erase(path, made) {
  if (!made.has(path)) fs.rmSync(bytes(path), { recursive: true, force: true });
  else if (look(path).isDirectory()) clear(path, made);
}

async function make(root, path, entry, aside) {
  const there = look(path);
  if (entry.type === '5' && there?.isDirectory()) {
    clearAttributes(path);
    return;
  }
  let target = '';
  if (entry.type === '1') {
    const parts = split(entry.link);
    const name = parts.pop();
    if (!name || name === '..' || parts.includes('..')) throw new Error(`${entry.name}: ${entry.link} leads out of the layer`);
    target = parts[0] === PUT_ASIDE ? `${aside}/${name}` : `${directoryOf(root, parts)}/${name}`;
    if (!look(target)) throw new Error(`${entry.name} is a hard link to ${entry.link}, which is not there`);
    if (target === path) return;
  }
  if (there) fs.rmSync(bytes(path), { recursive: true, force: true });
  switch (entry.type) {
    case '0':
    case '7': {
      const file = fs.openSync(bytes(path), fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o600);
      try {
        await write(file, entry);
      } finally {
        fs.closeSync(file);
      }
      break;
    }
    case '1':
      fs.linkSync(bytes(target), bytes(path));
      break;
    case '2':
      fs.symlinkSync(bytes(entry.link), bytes(path));
      break;
    case '3':
    case '4':
      program('mknod', [path, entry.type === '3' ? 'c' : 'b', String(entry.major), String(entry.minor)]);
      break;
    case '5':
      fs.mkdirSync(bytes(path), { mode: 0o700 });
      break;
    case '6':
      program('mkfifo', [path]);
      break;
    default:
      throw new Error(`${entry.name}: entries of type ${entry.type} are not supported`);
  }
}

async function write(file, entry) {
  const map = entry.map ? entry.map.map((pair) => [...pair]) : [[0, entry.size]];
  for await (let piece of entry.content) {
    while (piece.length) {
      while (map.length && !map[0][1]) map.shift();
      if (!map.length) throw new Error(`${entry.name}: it has more data than its sparse map`);
      const [offset, length] = map[0];
      const written = fs.writeSync(file, piece, 0, Math.min(piece.length, length), offset);
      map[0] = [offset + written, length - written];
      piece = piece.subarray(written);
    }
  }
  if (entry.map) fs.ftruncateSync(file, entry.size);
}

// Removes the attributes of a directory of the layers below, before its new entry sets its own.
function clearAttributes(path) {
  const output = execFileSync('getfattr', ['--match=-', '--absolute-names', '--', argument(path)], { encoding: 'latin1' });
  for (const key of output.split('\n').filter((line) => line && !line.startsWith('# '))) {
    program('setfattr', ['--remove', key, '--', path]);
  }
}

// Owners before modes before attributes before times: each changes some of the later ones.
function setMetadata(path, entry) {
  if (entry.type === '1') return;
  fs.lchownSync(bytes(path), entry.uid, entry.gid);
  if (entry.type !== '2') fs.chmodSync(bytes(path), entry.mode);
  for (const [key, value] of entry.xattrs) {
    program('setfattr', ['--no-dereference', '--name', key, '--value', `0x${Buffer.from(value, 'latin1').toString('hex')}`, '--', path]);
  }
  // For times before 1970 Node accepts only a Date.
  const time = entry.mtime < 0 ? new Date(entry.mtime * 1000) : entry.mtime;
  fs.lutimesSync(bytes(path), time, time);
}

function program(name, words) {
  execFileSync(name, words.map(argument), { stdio: ['ignore', 'ignore', 'pipe'] });
}

// Node passes arguments as UTF-8.
function argument(word) {
  return bytes(word).toString();
}
