// Tar headers, read and written: ustar, GNU's long names and numbers, PAX.

const BLOCK = 512;
const LONGEST_HEADER = 1 << 20;

// The bytes of a stream, in pieces of a given size.
class Bytes {
  constructor(stream) {
    // The rest of the stream stays readable: the connection must live for the response to a refused call.
    this.pieces = stream.iterator({ destroyOnReturn: false });
    this.held = Buffer.alloc(0);
  }

  // Reads up to `size` bytes; none at the end.
  async some(size) {
    while (!this.held.length) {
      const { value, done } = await this.pieces.next();
      if (done) return Buffer.alloc(0);
      this.held = value;
    }
    const piece = this.held.subarray(0, size);
    this.held = this.held.subarray(size);
    return piece;
  }

  async exactly(size) {
    const pieces = [];
    let left = size;
    while (left) {
      const piece = await this.some(left);
      if (!piece.length) break;
      pieces.push(piece);
      left -= piece.length;
    }
    return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  }
}

// Yields the entries of a tar. Each has `content`, an async iterable that must be read to its end.
export async function* entries(stream) {
  const bytes = new Bytes(stream);
  try {
    yield* read(bytes);
  } finally {
    await bytes.pieces.return();
  }
}

async function* read(bytes) {
  const globals = new Map();
  let next = new Map();
  for (;;) {
    const header = await bytes.exactly(BLOCK);
    if (!header.length || (header.length === BLOCK && !header.some(Boolean))) break;
    if (header.length < BLOCK) throw new Error('the tar ends within a header');
    check(header);
    const type = String.fromCharCode(header[156] || 0x30);
    const size = number(header, 124, 12);
    if ('LKxg'.includes(type)) {
      if (size < 0 || size > LONGEST_HEADER) throw new Error(`a header of ${size} bytes is too large`);
      const data = await bytes.exactly(size + padding(size));
      if (data.length < size) throw new Error('the tar ends within a header');
      const text = data.subarray(0, size);
      if (type === 'L') next.set('path', string(text, 0, size));
      else if (type === 'K') next.set('linkpath', string(text, 0, size));
      else for (const [key, value] of records(text)) put(type === 'g' ? globals : next, key, value);
      continue;
    }
    const extra = new Map([...globals, ...next]);
    next = new Map();
    const entry = {
      type: type === 'S' ? '0' : type,
      name: extra.get('GNU.sparse.name') ?? extra.get('path') ?? nameOf(header),
      link: extra.get('linkpath') ?? string(header, 157, 100),
      mode: number(header, 100, 8) & 0o7777,
      uid: decimal(extra, 'uid') ?? number(header, 108, 8),
      gid: decimal(extra, 'gid') ?? number(header, 116, 8),
      mtime: decimal(extra, 'mtime') ?? number(header, 136, 12),
      major: number(header, 329, 8),
      minor: number(header, 337, 8),
      xattrs: [...extra].filter(([key]) => key.startsWith('SCHILY.xattr.')).map(([key, value]) => [key.slice(13), value]),
    };
    // Only files have content; the size of other entries is ignored.
    const inside = '123456'.includes(type) ? 0 : (decimal(extra, 'size') ?? size);
    if (!(inside >= 0)) throw new Error(`${entry.name}: a size of ${inside} bytes`);
    entry.size = inside;
    let left = inside;
    if (type === 'S') [entry.map, entry.size] = await oldMap(header, bytes);
    else if (extra.has('GNU.sparse.map')) entry.map = pairs(extra.get('GNU.sparse.map').split(','));
    if (extra.get('GNU.sparse.major') === '1') {
      const [map, taken] = await newMap(bytes, inside);
      entry.map = map;
      left -= taken;
    }
    if (entry.map && type !== 'S') {
      entry.size = decimal(extra, 'GNU.sparse.realsize') ?? decimal(extra, 'GNU.sparse.size');
    }
    entry.content = (async function* () {
      while (left) {
        const piece = await bytes.some(Math.min(left, 1 << 20));
        if (!piece.length) throw new Error('the tar ends within a file');
        left -= piece.length;
        yield piece;
      }
    })();
    yield entry;
    for await (const _ of entry.content); // skip content that was not read
    const end = await bytes.exactly(padding(inside));
    if (end.length < padding(inside)) throw new Error('the tar ends within a file');
  }
  while ((await bytes.some(1 << 20)).length); // zeros after the end, and the end of the body
}

// Adds a record to a header; GNU's first sparse format has one for each offset and each length.
function put(extra, key, value) {
  if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
    const map = extra.get('GNU.sparse.map');
    extra.set('GNU.sparse.map', map ? `${map},${value}` : value);
  } else extra.set(key, value);
}

// The map of a sparse file lists its ranges of data: [offset, length], in order.
function pairs(numbers) {
  const map = [];
  for (let at = 0; at + 1 < numbers.length; at += 2) map.push([Number(numbers[at]), Number(numbers[at + 1])]);
  if (map.some(([offset, length]) => !(offset >= 0 && length >= 0))) throw new Error('a sparse map is damaged');
  return map;
}

// GNU's own sparse format: the map is in the header and in blocks after it.
async function oldMap(header, bytes) {
  const numbers = [];
  const take = (block, at, count) => {
    for (let n = 0; n < 2 * count; n++) if (block[at + 12 * n]) numbers.push(number(block, at + 12 * n, 12));
  };
  take(header, 386, 4);
  for (let more = header[482]; more; ) {
    const block = await bytes.exactly(BLOCK);
    if (block.length < BLOCK) throw new Error('the tar ends within a sparse map');
    take(block, 0, 21);
    more = block[504];
  }
  return [pairs(numbers), number(header, 483, 12)];
}

// Version 1.0: the map comes before the content, one number in each line, padded to whole blocks.
async function newMap(bytes, size) {
  let text = '';
  for (;;) {
    if (text.length + BLOCK > Math.min(size, LONGEST_HEADER)) throw new Error('a sparse map is damaged');
    text += (await bytes.exactly(BLOCK)).toString('latin1');
    const lines = text.split('\n');
    const count = 2 * Number(lines[0]);
    if (lines.length > count + 1) return [pairs(lines.slice(1, count + 1)), text.length];
  }
}

function padding(size) {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

function check(header) {
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK; at++) if (at < 148 || at >= 156) sum += header[at];
  if (number(header, 148, 8) !== sum) throw new Error('a header has a wrong checksum: this is no tar, or a damaged one');
}

// The bytes of a name, one in each character: not every name is UTF-8.
function string(buffer, at, size) {
  const part = buffer.subarray(at, at + size);
  const end = part.indexOf(0);
  return part.subarray(0, end < 0 ? size : end).toString('latin1');
}

function nameOf(header) {
  const prefix = header.subarray(257, 263).toString('latin1') === 'ustar\0' ? string(header, 345, 155) : '';
  const name = string(header, 0, 100);
  return prefix ? `${prefix}/${name}` : name;
}

function number(header, at, size) {
  const field = header.subarray(at, at + size);
  if (field[0] & 0x80) {
    let value = BigInt(field[0] & 0x40 ? -1 : 0);
    for (const byte of [field[0] & 0x7f, ...field.subarray(1)]) value = (value << 8n) | BigInt(byte);
    return Number(field[0] & 0x40 ? BigInt.asIntN(8 * size - 1, value) : value);
  }
  const text = field.toString('latin1').replace(/[\0 ].*$/s, (rest) => (rest.trim() ? rest : '')).trim();
  return parseInt(text.replace(/\0.*/s, '') || '0', 8);
}

function decimal(extra, key) {
  return extra.has(key) ? Number(extra.get(key)) : undefined;
}

function* records(data) {
  let at = 0;
  while (at < data.length) {
    const space = data.indexOf(0x20, at);
    const size = Number(data.subarray(at, space).toString());
    if (space < 0 || !(size > 0) || at + size > data.length) throw new Error('a PAX header is damaged');
    const record = data.subarray(space + 1, at + size - 1).toString('latin1');
    const equals = record.indexOf('=');
    yield [record.slice(0, equals), record.slice(equals + 1)];
    at += size;
  }
}

// Returns the whiteouts for these paths.
export function whiteouts(paths) {
  return Buffer.concat(
    paths.flatMap((path) => {
      const slash = path.lastIndexOf(0x2f) + 1;
      const name = Buffer.concat([path.subarray(0, slash), Buffer.from('.wh.'), path.subarray(slash)]);
      if (name.length <= 100) return [headerOf(name, '0', 0)];
      let rest = Buffer.concat([Buffer.from(' path='), name, Buffer.from('\n')]);
      let size = rest.length;
      while (size !== rest.length + String(size).length) size = rest.length + String(size).length;
      const record = Buffer.concat([Buffer.from(String(size)), rest]);
      return [headerOf(Buffer.from('pax'), 'x', record.length), record, Buffer.alloc(padding(record.length)), headerOf(name.subarray(0, 100), '0', 0)];
    }),
  );
}

function headerOf(name, type, size) {
  const header = Buffer.alloc(BLOCK);
  name.copy(header, 0);
  const put = (at, text) => header.write(text, at, 'latin1');
  put(100, '0000600\0');
  put(108, '0000000\0');
  put(116, '0000000\0');
  put(124, `${size.toString(8).padStart(11, '0')}\0`);
  put(136, '00000000000\0');
  put(148, '        ');
  put(156, type);
  put(257, 'ustar\x0000');
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return header;
}
