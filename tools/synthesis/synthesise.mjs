// Reads the RTL, synthesises it with Yosys, prints cells and estimated transistors. Started by tools/synthesise.sh.
import fs from 'fs';
import path from 'path';
import { runYosys } from '@yowasp/yosys';

const usage = 'usage: tools/synthesise.sh [--build NAME] [--json FILE] [--pe-only | --read-only]';

// Yosys's table of static CMOS has no flop with an asynchronous clear: its plain flop (16) and one gate more in each latch (2 x 2).
const kClearedFlop = '$_DFF_PN0_';
const kClearedFlopTransistors = 20;
const kFlops = ['$_DFF_P_', kClearedFlop];
// No macro library: arrays stay arrays, flops become one of two kinds, logic becomes static CMOS gates.
// `abc` is thorough for the small PEs and -fast for whole blocks, where the thorough one does not end on wide multipliers.
const kSynthesis = (top, abc) =>
  `synth -top ${top} -run begin:fine; opt -fast -full; opt -undriven -fine; techmap; opt -fast; ` +
  `dfflegalize -cell $_DFF_P_ x -cell ${kClearedFlop} x; ${abc} -g cmos; opt_clean; check -assert; memory_unpack; tee -q -o stat.json stat -tech cmos -json`;
const kFolders = ['pkg', 'common', 'array', 'dequant', 'memory', 'queue', 'core'];
const kParameters = {  // keys of rtl/builds.yaml
  rows: 'Rows', cols: 'Cols', planes_per_cycle: 'PlanesPerCycle', max_act_bits: 'MaxActBits', axi_data_bits: 'AxiDataWidth',
  max_tokens: 'MaxTokens', act_depth: 'ActDepth', hidden_depth: 'HiddenDepth', fifo_depth: 'FifoDepth', command_depth: 'CommandDepth',
  io_depth: 'IoDepth', io_credits: 'IoCredits', io_jobs: 'IoJobs',
};

// Yosys 0.55 takes an array of structures for a plain vector, without a word: its storage would be missing from the table.
function structureArrays(files) {
  const found = [];
  for (const [name, file] of Object.entries(files)) {
    file.text.split('\n').forEach((line, i) => {
      if (/^\s*(\w+::)?\w+_t\s+\w+\s*\[[A-Za-z]\w*\];/.test(line)) found.push(`${name}:${i + 1}: ${line.trim()}`);
    });
  }
  return found;
}

class InputError extends Error {}

function readArguments(argv) {
  const options = { build: 'r8c8p2a16', json: null, peOnly: false, readOnly: false };
  for (let i = 0; i < argv.length; ++i) {
    const value = () => {
      if (i + 1 >= argv.length) throw new InputError(`${argv[i]}: got nothing, expected a value`);
      return argv[++i];
    };
    if (argv[i] === '--build') options.build = value();
    else if (argv[i] === '--json') options.json = value();
    else if (argv[i] === '--pe-only') options.peOnly = true;
    else if (argv[i] === '--read-only') options.readOnly = true;
    else throw new InputError(`got ${argv[i]}; ${usage}`);
  }
  if (options.readOnly && options.peOnly) throw new InputError('--read-only: got it with --pe-only, expected one of them');
  if (options.readOnly && options.json) throw new InputError('--json: got it with --read-only, which makes no table, expected one of them');
  return options;
}

const temporaryOf = (file) => `${file}.${process.pid}.tmp`;
const isStream = (file) => { const found = fs.statSync(file, { throwIfNoEntry: false }); return Boolean(found) && !found.isFile() && !found.isDirectory(); };

// Before the work, which takes minutes.
function checkOutput(file) {
  try {
    if (fs.statSync(file, { throwIfNoEntry: false })?.isDirectory()) throw new Error('a folder');
    if (isStream(file)) return;
    fs.writeFileSync(temporaryOf(file), '');
    fs.rmSync(temporaryOf(file));
  } catch (error) {
    throw new InputError(`--json: got '${file}' (${error.code ?? error.message}), expected a file that can be written`);
  }
}

// The file appears whole or not at all; a pipe or device is written through.
function writeOutput(file, text) {
  if (isStream(file)) return fs.writeFileSync(file, text);
  fs.writeFileSync(temporaryOf(file), text);
  fs.renameSync(temporaryOf(file), file);
}

// One build a line: "name: {key: value, ...}".
function readBuild(file, name) {
  const names = [];
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const match = line.match(/^\s+(\w+):\s*\{(.*)\}/);
    if (!match) continue;
    names.push(match[1]);
    if (match[1] !== name) continue;
    return Object.fromEntries(match[2].split(',').map((pair) => {
      const [key, value] = pair.split(':').map((text) => text.trim());
      if (!(key in kParameters)) throw new InputError(`${file}: ${name}.${key}: got an unknown key, expected one of ${Object.keys(kParameters).join(' ')}`);
      return [kParameters[key], Number(value)];
    }));
  }
  throw new InputError(`--build: got ${name}, expected one of ${names.join(' ')}`);
}

async function yosys(files, script) {
  let log = '';
  const decoder = new TextDecoder();
  const sink = (bytes) => { if (bytes) log += decoder.decode(bytes); };
  try {
    return await runYosys(['-p', script], files, { stdout: sink, stderr: sink });
  } catch (error) {
    const lines = log.split('\n').filter((line) => /ERROR/.test(line));
    throw new Error(`yosys failed: ${lines.join(' ') || log.slice(-2000)}`);
  }
}

// Reads the folders' files, runs the commands, returns what these wrote.
async function read(files, folders, commands) {
  const sources = Object.keys(files).filter((name) => folders.includes(files[name].folder));
  const script = `read_verilog -sv -DSYNTHESIS ${sources.join(' ')}; ${commands}`;
  return yosys(Object.fromEntries(sources.map((name) => [name, files[name].text])), script);
}

const chparam = (top, parameters) => {
  const set = Object.entries(parameters).map(([key, value]) => `-set ${key} ${value}`).join(' ');
  return set ? `chparam ${set} ${top}; ` : '';
};

async function synthesise(files, top, parameters, folders = kFolders, abc = 'abc -fast') {
  const out = await read(files, folders, `${chparam(top, parameters)}${kSynthesis(top, abc)}`);
  return { modules: JSON.parse(out['stat.json']).modules, top };
}

// Where a cell type is a module of the design: under its own name when it has parameters, with a backslash when it has none.
const moduleOf = (modules, type) => [type, `\\${type}`].find((name) => name in modules);

// The area of a module with all that it instantiates.
function area(modules, name) {
  const module = modules[name];
  const sum = { cells: 0, flops: 0, transistors: 0, storage_bits: module.num_memory_bits };
  const types = module.num_cells_by_type ?? {};
  let own = parseInt(module.estimated_num_transistors ?? '0', 10);
  for (const [type, count] of Object.entries(types)) {
    const instance = moduleOf(modules, type);
    if (instance) {
      const child = area(modules, instance);
      for (const key of Object.keys(sum)) sum[key] += count * child[key];
      continue;
    }
    if (type.startsWith('$mem')) continue;
    if (!type.startsWith('$_')) throw new Error(`${name}: cell ${type} was not mapped`);
    sum.cells += count;
    if (kFlops.includes(type)) sum.flops += count;
    if (type === kClearedFlop) own += count * kClearedFlopTransistors;
  }
  sum.transistors += own;
  return sum;
}

const find = (modules, top) => (`\\${top}` in modules ? `\\${top}` : Object.keys(modules).find((name) => name.endsWith(`\\${top}`)));
const topArea = (result) => area(result.modules, find(result.modules, result.top));

function print(title, header, rows) {
  const widths = header.map((text, i) => Math.max(text.length, ...rows.map((row) => String(row[i]).length)));
  const line = (row) => row.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]) : String(cell).padStart(widths[i]))).join('  ');
  console.log(`\n${title}\n${line(header)}\n${widths.map((w) => '-'.repeat(w)).join('  ')}`);
  for (const row of rows) console.log(line(row));
}

async function comparePes(files) {
  const rows = [];
  const kRows = 8;
  const one = async (top, parameters) => topArea(await synthesise(files, top, parameters, ['pkg', 'common', 'array'], 'abc'));
  for (const actBits of [8, 16]) {
    for (const planes of [1, 2, 4]) {
      const pe = await one('moe_pe', { PlanesPerCycle: planes, MaxActBits: actBits });
      const column = await one('moe_pe_column', { Rows: kRows, PlanesPerCycle: planes, MaxActBits: actBits });
      rows.push({ pe: `shift-and-add, ${planes} digit${planes > 1 ? 's' : ''} a cycle`, act_bits: actBits, pe_transistors: pe.transistors,
                  column_transistors: column.transistors, cycles: [8, 4, 2, 1].map((bits) => Math.ceil(bits / planes)) });
    }
    const pe = await one('moe_pe_multiplier', { MaxActBits: actBits });
    const tree = await one('moe_adder_tree', { Inputs: kRows, InWidth: actBits + 8 });
    // A register of the sum's width at the end, as moe_pe_column has.
    const sumBits = actBits + 8 + Math.log2(kRows);
    rows.push({ pe: 'multiplier, 8-bit weight', act_bits: actBits, pe_transistors: pe.transistors,
                column_transistors: kRows * pe.transistors + tree.transistors + sumBits * kClearedFlopTransistors, cycles: [1, 1, 1, 1] });
  }
  for (const row of rows) {
    row.transistors_per_row = Math.round(row.column_transistors / kRows);
    row.transistor_cycles = row.cycles.map((cycles) => row.transistors_per_row * cycles);
  }
  return rows;
}

async function main(root, argv) {
  const options = readArguments(argv);
  if (options.json) checkOutput(options.json);
  const parameters = readBuild(path.join(root, 'rtl/builds.yaml'), options.build);
  const files = {};
  for (const folder of kFolders) {
    const dir = path.join(root, 'rtl', folder);
    for (const name of fs.readdirSync(dir).filter((n) => n.endsWith('.sv')).sort()) {
      files[name] = { folder, text: fs.readFileSync(path.join(dir, name), 'utf8') };
    }
  }
  if (options.readOnly) {
    await read(files, kFolders, `${chparam('moe_core', parameters)}hierarchy -check -top moe_core`);
    console.log(`Yosys reads the ${Object.keys(files).length} files of moe_core`);
    return;
  }
  const report = { tool: 'yosys 0.55.944', build: options.build, parameters, pe: await comparePes(files) };
  print('Processing elements: transistors, and transistors x cycles per weight of b bits (a column of 8 rows with its adder tree)',
        ['PE', 'act bits', 'PE alone', 'column', 'per row', 'b=8', 'b=4', 'b=2', 'b=1'],
        report.pe.map((r) => [r.pe, r.act_bits, r.pe_transistors, r.column_transistors, r.transistors_per_row, ...r.transistor_cycles]));
  if (!options.peOnly) {
    const core = await synthesise(files, 'moe_core', parameters);
    const top = find(core.modules, 'moe_core');
    report.blocks = [];
    for (const [type, count] of Object.entries(core.modules[top].num_cells_by_type)) {
      const name = moduleOf(core.modules, type);
      if (name) report.blocks.push({ block: type.replace(/^\$paramod[^\\]*\\/, '').replace(/\\.*$/, ''), count, ...area(core.modules, name) });
    }
    report.blocks.sort((a, b) => b.count * b.transistors - a.count * a.transistors || (a.block < b.block ? -1 : 1));
    report.total = area(core.modules, top);
    report.storage_not_counted = structureArrays(files);
    print(`Blocks of moe_core, build ${options.build} (each instance; storage arrays are counted in bits, not in transistors)`,
          ['block', 'instances', 'cells', 'flops', 'transistors', 'storage bits'],
          [...report.blocks.map((b) => [b.block, b.count, b.cells, b.flops, b.transistors, b.storage_bits]),
           ['moe_core (all)', 1, report.total.cells, report.total.flops, report.total.transistors, report.total.storage_bits]]);
    for (const line of report.storage_not_counted) console.log(`not in the storage bits (an array of structures, which Yosys misreads): ${line}`);
  }
  if (options.json) writeOutput(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

try {
  await main(process.argv[2], process.argv.slice(3));
} catch (error) {
  console.error(error.message);
  process.exit(error instanceof InputError ? 2 : 1);
}
