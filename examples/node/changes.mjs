// The differences between two trees, found by comparing the results of lstat and getfattr.

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const MODIFIED = 0;
export const ADDED = 1;
export const DELETED = 2;

const SLASH = Buffer.from('/');

// Lists what was added, modified or deleted from `before` to `now`; names are bytes. `before` may be ''.
export async function changes(now, before) {
  const [nowXattrs, beforeXattrs] = await Promise.all([xattrs(now), xattrs(before)]);
  const found = [];
  compare(Buffer.from(now), before ? Buffer.from(before) : null, Buffer.alloc(0));
  return found;

  function compare(nowRoot, beforeRoot, directory) {
    const nows = list(nowRoot, directory);
    const befores = beforeRoot ? list(beforeRoot, directory) : new Map();
    for (const [key, [path, stat]] of nows) {
      const [, old] = befores.get(key) ?? [];
      befores.delete(key);
      const at = found.length;
      if (!old) found.push({ path, stat, kind: ADDED });
      else if (differ(path, stat, old)) found.push({ path, stat, kind: MODIFIED });
      if (stat.isDirectory()) {
        const inside = found.length;
        compare(nowRoot, old?.isDirectory() ? beforeRoot : null, path);
        if (found.length > inside && inside === at) {
          found.splice(at, 0, { path, stat, kind: MODIFIED });
        }
      }
    }
    for (const [path, stat] of befores.values()) found.push({ path, stat, kind: DELETED });
  }

  function differ(path, stat, old) {
    if (stat.mode !== old.mode || stat.uid !== old.uid || stat.gid !== old.gid) return true;
    if (nowXattrs.get(path.toString('latin1')) !== beforeXattrs.get(path.toString('latin1'))) return true;
    if (stat.isDirectory()) return false;
    return stat.size !== old.size || stat.rdev !== old.rdev || stat.mtimeNs !== old.mtimeNs;
  }
}

// Returns the entries of one directory, sorted, by name.
function list(root, directory) {
  const at = directory.length ? Buffer.concat([root, SLASH, directory]) : root;
  const names = fs.readdirSync(at, { encoding: 'buffer' }).sort(Buffer.compare);
  return new Map(
    names.map((name) => {
      const path = directory.length ? Buffer.concat([directory, SLASH, name]) : name;
      return [name.toString('latin1'), [path, fs.lstatSync(Buffer.concat([root, SLASH, path]), { bigint: true })]];
    }),
  );
}

// Returns the output of getfattr for each path of a tree that has extended attributes.
async function xattrs(root) {
  const found = new Map();
  if (!root) return found;
  const { stdout } = await run(
    'getfattr',
    ['--recursive', '--physical', '--no-dereference', '--dump', '--match=-', '--encoding=hex', '.'],
    { cwd: root, encoding: 'latin1', maxBuffer: 1 << 30 },
  );
  for (const block of stdout.split('\n\n')) {
    const [first, ...values] = block.split('\n');
    if (!first.startsWith('# file: ')) continue;
    const name = first.slice(8).replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(parseInt(code, 8)));
    found.set(name, values.sort().join('\n'));
  }
  return found;
}
