// A graph driver plugin for Docker on plain directories, with only Node's standard library.
//
//   node plugin.mjs SOCKET
//
// It serves the protocol; layers.mjs keeps the layers. Tried with `graphdriver conform`.

import fs from 'node:fs';
import http from 'node:http';
import { Layers } from './layers.mjs';

const TYPE = 'application/vnd.docker.plugins.v1.1+json';
const LONGEST_BODY = 1 << 20;

const path = process.argv[2];
if (!path) {
  console.error('usage: node plugin.mjs SOCKET');
  process.exit(2);
}
// The daemon sends Init once. A plugin that is restarted later must still know the home.
const memory = `${path}.home`;
let layers = fs.existsSync(memory) ? new Layers(fs.readFileSync(memory, 'utf8')) : null;

class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const calls = {
  Init(asked) {
    const home = text(asked, 'Home');
    if (asked.Opts?.length) throw new Error(`unknown option ${asked.Opts[0]}; this plugin takes none`);
    if (asked.UIDMaps?.length || asked.GIDMaps?.length) {
      throw new Error('this plugin cannot remap owners');
    }
    layers = new Layers(home);
    fs.writeFileSync(memory, home);
    return {};
  },
  Capabilities: () => ({ Capabilities: { ReproducesExactDiffs: false } }),
  Status: () => ({ Status: [['Storage', 'plain directories']] }),
  async Create(asked) {
    const options = Object.keys(asked.StorageOpt ?? {});
    if (options.length) throw new Error(`unknown option ${options[0]}; this plugin takes none`);
    await here().create(text(asked, 'ID'), asked.Parent ?? '');
    return {};
  },
  CreateReadWrite: (asked) => calls.Create(asked),
  Get: async (asked) => ({ Dir: await here().get(text(asked, 'ID')) }),
  Put: (asked) => (here().directory(text(asked, 'ID')), {}),
  async Remove(asked) {
    await here().remove(text(asked, 'ID'));
    return {};
  },
  Exists: (asked) => ({ Exists: here().exists(text(asked, 'ID')) }),
  GetMetadata: (asked) => (here().directory(text(asked, 'ID')), { Metadata: {} }),
  Changes: async (asked) => ({
    Changes: await here().changes(text(asked, 'ID'), asked.Parent ?? ''),
  }),
  DiffSize: async (asked) => ({ Size: await here().diffSize(text(asked, 'ID'), asked.Parent ?? '') }),
  Cleanup: () => ({}),
};

function here() {
  if (!layers) throw new Error('the plugin is not initialised; restart the daemon, which sends Init at startup');
  return layers;
}

function text(asked, member) {
  const found = asked[member];
  if (typeof found !== 'string' || !found) throw new Refusal(400, `${member} is missing`);
  return found;
}

async function bodyOf(request) {
  const pieces = [];
  let size = 0;
  for await (const piece of request) {
    size += piece.length;
    if (size > LONGEST_BODY) throw new Refusal(413, 'the body is too large');
    pieces.push(piece);
  }
  const body = Buffer.concat(pieces).toString();
  if (!body.trim()) return {};
  try {
    const found = JSON.parse(body);
    if (typeof found === 'object' && found && !Array.isArray(found)) return found;
  } catch {
    // The error is thrown below.
  }
  throw new Refusal(400, 'the body is not a JSON object');
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://plugin');
  if (request.method !== 'POST') throw new Refusal(405, 'calls are made with POST');
  if (url.pathname === '/Plugin.Activate') return { Implements: ['GraphDriver'] };
  const name = url.pathname.replace('/GraphDriver.', '');
  if (name === 'ApplyDiff') {
    const id = url.searchParams.get('id');
    if (!id) throw new Refusal(400, 'id is missing');
    return { Size: await here().applyDiff(id, request) };
  }
  if (name === 'Diff') {
    const asked = await bodyOf(request);
    // A failure before the first byte is an error response; after it the connection is broken off.
    const tar = await here().diff(text(asked, 'ID'), asked.Parent ?? '');
    response.writeHead(200, { 'Content-Type': 'application/x-tar' });
    try {
      for await (const piece of tar) {
        if (!response.write(piece)) await drained(response);
      }
      response.end();
    } catch (error) {
      console.error(`Diff ${asked.ID}: ${error.message}`);
      response.destroy();
    }
    return null;
  }
  if (!Object.hasOwn(calls, name)) throw new Refusal(404, `unknown call ${url.pathname}`);
  return calls[name](await bodyOf(request));
}

function drained(response) {
  return new Promise((resolve, reject) => {
    response.once('drain', resolve);
    response.once('close', () => reject(new Error('the reader closed the connection')));
  });
}

const server = http.createServer(async (request, response) => {
  let status = 200;
  let body;
  try {
    body = await answer(request, response);
    if (body === null) return;
  } catch (error) {
    status = error.status ?? 500;
    const asked = request.url.replace('/GraphDriver.', '');
    body = { Err: `${asked}: ${error.message}` };
    console.error(body.Err);
    // Docker 20.10 crashes if the response arrives while it still sends a layer.
    request.resume();
    if (!request.complete && !request.destroyed) {
      await new Promise((resolve) => request.once('close', resolve).once('end', resolve));
    }
  }
  if (response.destroyed) return;
  const encoded = JSON.stringify(body);
  response.writeHead(status, { 'Content-Type': TYPE, 'Content-Length': Buffer.byteLength(encoded) });
  response.end(encoded);
});
// If the plugin closed an idle connection, a call that is just being sent would be lost.
server.keepAliveTimeout = 0;
server.requestTimeout = 0;

// An earlier process may have left its socket.
fs.rmSync(path, { force: true });
process.umask(0o117);
server.listen(path, () => {
  process.umask(0);
  console.error(`serving plain directories on ${path}`);
});
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    fs.rmSync(path, { force: true });
    process.exit(0);
  });
}
