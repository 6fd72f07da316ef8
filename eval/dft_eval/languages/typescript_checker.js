// Runs inside the sandbox: checks and translates one TypeScript program after another, and executes none.
// A question on the descriptor is "SIZE MODE\n" and SIZE bytes of source; a reply is "SIZE\n" and SIZE bytes of JSON.
// Kept between programs: the parsed library files, and nothing else.
"use strict";
const fs = require("node:fs");
const [compiler, descriptor] = process.argv.slice(-2);
const ts = require(compiler);
const fd = Number(descriptor);
const LIBRARY = require("node:path").dirname(compiler);
const NAME = "test.ts";
const MODES = {
  es2015: { target: ts.ScriptTarget.ES2015, lib: ["lib.es2015.d.ts", "lib.dom.d.ts"] },
  defaults: {},
};
const parsed = new Map();

function isLibrary(name) {
  return name.startsWith(`${LIBRARY}/lib.`) && name.endsWith(".d.ts") && !name.includes("..");
}

function libraryFile(name, options) {
  const key = `${options.languageVersion ?? options} ${name}`;
  if (!parsed.has(key)) {
    const text = isLibrary(name) ? ts.sys.readFile(name) : undefined;
    parsed.set(key, text === undefined ? undefined : ts.createSourceFile(name, text, options));
  }
  return parsed.get(key);
}

function hostOf(text, write) {
  return {
    fileExists: (name) => name === NAME || (isLibrary(name) && fs.existsSync(name)),
    readFile: (name) => (name === NAME ? text : undefined),
    getSourceFile: (name, options) =>
      name === NAME ? ts.createSourceFile(name, text, options) : isLibrary(name) ? libraryFile(name, options) : undefined,
    getDefaultLibFileName: (options) => `${LIBRARY}/${ts.getDefaultLibFileName(options)}`,
    getDefaultLibLocation: () => LIBRARY,
    getCurrentDirectory: () => "/work",
    getCanonicalFileName: (name) => name,
    useCaseSensitiveFileNames: () => true,
    getNewLine: () => "\n",
    directoryExists: () => false,
    getDirectories: () => [],
    writeFile: (name, content) => write(content),
  };
}

// A program that declares what the library declares too can break the library's own types; only then are they checked.
function touchesLibrary(program, file) {
  if (ts.isExternalModule(file)) return file.text.includes("global");
  return program.getSourceFiles().some((other) => other !== file && [...file.locals.keys()].some((name) => other.locals?.has(name)));
}

// As the command line does it: what is wrong with the syntax hides everything else.
function diagnosticsOf(program, file) {
  let found = program.getSyntacticDiagnostics(file);
  if (found.length === 0) found = [...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()];
  if (found.length === 0) found = program.getSemanticDiagnostics(file);
  return ts.sortAndDeduplicateDiagnostics(found);
}

function check(text, mode) {
  let translated = "";
  const host = hostOf(text, (content) => (translated = content));
  const program = ts.createProgram([NAME], MODES[mode], host);
  const file = program.getSourceFile(NAME);
  let found = diagnosticsOf(program, file);
  if (found.length === 0 && touchesLibrary(program, file)) found = diagnosticsOf(program, undefined);
  if (found.length === 0) found = program.emit(file).diagnostics;
  return { errors: ts.formatDiagnostics(found, host), translated };
}

function readLine() {
  const byte = Buffer.alloc(1);
  let line = "";
  while (fs.readSync(fd, byte, 0, 1) === 1) {
    if (byte[0] === 10) return line;
    line += byte.toString("latin1");
  }
  process.exit(0); // nobody asks any more
}

for (;;) {
  const [size, mode] = readLine().split(" ");
  const source = Buffer.alloc(Number(size));
  for (let have = 0; have < source.length; ) {
    const count = fs.readSync(fd, source, have, source.length - have);
    if (count === 0) process.exit(0);
    have += count;
  }
  const text = source.toString("utf8").replace(/^\uFEFF/, "");
  const reply = Buffer.from(JSON.stringify(check(text, mode)));
  const message = Buffer.concat([Buffer.from(`${reply.length}\n`), reply]);
  for (let sent = 0; sent < message.length; ) sent += fs.writeSync(fd, message, sent);
}
