// Layers as plain directories: HOME/ID/root, a copy of its parent's tree.
//
// A layer appears by one rename of a finished copy, and disappears by one rename. While a tar is unpacked
// into it, the file HOME/ID/unfinished marks it, and Get is refused.

import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DELETED, changes } from './changes.mjs';
import { whiteouts } from './tar.mjs';
import { unpack } from './unpack.mjs';

const run = promisify(execFile);
const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

export class Layers {
  constructor(home) {
    this.home = home;
    this.turns = new Map();
    fs.mkdirSync(home, { recursive: true, mode: 0o710 });
    for (const name of fs.readdirSync(home)) {
      if (name.startsWith('.')) fs.rmSync(join(home, name), { recursive: true, force: true });
    }
  }

  exists(id) {
    return ID.test(id) && fs.existsSync(join(this.home, id));
  }

  // Returns the directory of a layer; throws if it does not exist.
  directory(id) {
    if (!this.exists(id)) throw new Error(`the layer ${id} does not exist`);
    return join(this.home, id);
  }

  // Returns the tree of a layer; throws if the layer is unfinished.
  root(id) {
    if (fs.existsSync(join(this.directory(id), 'unfinished'))) {
      throw new Error(`the layer ${id} is incomplete: its transfer did not finish; remove it and load it again`);
    }
    return join(this.home, id, 'root');
  }

  // Runs the calls for one layer one after the other.
  async inTurn(id, work) {
    const before = this.turns.get(id) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.turns.set(id, mine);
    try {
      return await mine;
    } finally {
      if (this.turns.get(id) === mine) this.turns.delete(id);
    }
  }

  create(id, parent) {
    return this.inTurn(id, async () => {
      if (!ID.test(id)) throw new Error(`${JSON.stringify(id)} is not an ID`);
      if (this.exists(id)) throw new Error(`the layer ${id} exists`);
      const source = parent && this.root(parent);
      const made = fs.mkdtempSync(join(this.home, '.new-'));
      const root = join(made, 'root');
      fs.mkdirSync(root, { mode: 0o755 });
      if (source) await run('cp', ['-a', '--reflink=auto', `${source}/.`, root]);
      fs.chmodSync(made, 0o710);
      fs.renameSync(made, join(this.home, id));
    });
  }

  get(id) {
    return this.inTurn(id, () => this.root(id));
  }

  remove(id) {
    return this.inTurn(id, () => {
      if (!this.exists(id)) return;
      const gone = fs.mkdtempSync(join(this.home, '.gone-'));
      fs.renameSync(join(this.home, id), join(gone, id));
      spawn('rm', ['-rf', gone], { stdio: 'ignore' });
    });
  }

  changes(id, parent) {
    return this.inTurn(id, async () =>
      (await this.compared(id, parent)).map(({ path, kind }) => ({
        Path: `/${path.toString()}`,
        Kind: kind,
      })),
    );
  }

  diffSize(id, parent) {
    return this.inTurn(id, async () => {
      const seen = new Set();
      let size = 0;
      for (const { kind, stat } of await this.compared(id, parent)) {
        if (kind === DELETED || stat.isDirectory() || seen.has(stat.ino)) continue;
        seen.add(stat.ino);
        if (stat.isFile() || stat.isSymbolicLink()) size += Number(stat.size);
      }
      return size;
    });
  }

  compared(id, parent) {
    return changes(this.root(id), parent ? this.root(parent) : '');
  }

  // Returns an async iterable of the tar's bytes: first the whiteouts, then what GNU tar packs.
  async diff(id, parent) {
    const found = await this.inTurn(id, () => this.compared(id, parent));
    const root = this.root(id);
    const gone = found.filter((change) => change.kind === DELETED).map((change) => change.path);
    const there = found.filter((change) => change.kind !== DELETED && !change.stat.isSocket());
    return pack(root, gone, there.map((change) => change.path));
  }

  applyDiff(id, stream) {
    return this.inTurn(id, async () => {
      const mark = join(this.directory(id), 'unfinished');
      if (fs.existsSync(mark)) this.root(id);
      fs.writeFileSync(mark, '');
      const size = await unpack(stream, join(this.home, id, 'root'));
      fs.rmSync(mark);
      return size;
    });
  }
}

async function* pack(root, gone, there) {
  yield whiteouts(gone);
  const tar = spawn('tar', [
    '--create', '--directory', root, '--no-recursion', '--null', '--verbatim-files-from',
    '--files-from=-', '--format=posix', '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime',
    '--xattrs', '--xattrs-include=*', '--numeric-owner',
  ]);
  try {
    const ended = new Promise((resolve) => tar.on('close', resolve));
    let errors = '';
    tar.stderr.on('data', (text) => (errors += text));
    tar.stdin.on('error', () => {});
    tar.stdin.end(Buffer.concat(there.flatMap((path) => [path, Buffer.from([0])])));
    yield* tar.stdout;
    if ((await ended) !== 0) throw new Error(`tar failed: ${errors.trim()}`);
  } finally {
    tar.kill();
  }
}
