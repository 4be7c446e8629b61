#!/usr/bin/env python3
"""Writes the SystemVerilog package and the C++ header of rtl/pkg/commands.yaml.

usage: generate_commands.py [--check]
--check writes nothing and exits 1 when a committed file differs from what would be written.
"""
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "rtl/pkg/commands.yaml"
NOTE = "Generated from rtl/pkg/commands.yaml by tools/generate_commands.py: change that, not this."


def camel(name):
    return "".join(part.capitalize() for part in name.split("_"))


def cpp_type(bits):
    if bits == 1:
        return "bool"
    for width in (8, 16, 32, 64):
        if bits <= width:
            return f"std::uint{width}_t"
    raise ValueError(f"{SOURCE}: bits: got {bits}, expected at most 64")


def sv_struct(fields, name):
    out = ["  typedef struct packed {"]
    for field in reversed(fields):
        width = f" [{field['bits'] - 1}:0]" if field["bits"] > 1 else ""
        out.append(f"    logic{width} {field['name']};  // {field['doc']}")
    return out + [f"  }} {name};", ""]


def system_verilog(spec):
    command, registers, blocks = spec["command"], spec["registers"], spec["blocks"]
    descriptor = spec["descriptor"]
    out = [f"// {NOTE}", "", "/// Commands, register addresses and activity blocks of the core.", "package moe_commands_pkg;"]
    out.append(f"  parameter int unsigned CommandWords = {command['words']};")
    out.append(f"  parameter int unsigned CommandBits = {32 * command['words']};")
    out.append("")
    for op in command["opcodes"]:
        out.append(f"  parameter logic [3:0] Op{camel(op['name'])} = 4'd{op['value']};  // {op['doc']}")
    out.append("")
    out += sv_struct(command["fields"], "cmd_t")
    out.append(f"  parameter int unsigned DescriptorWords = {descriptor['words']};")
    out.append(f"  parameter int unsigned DescriptorBits = {32 * descriptor['words']};")
    out.append("")
    for value, order in enumerate(spec["load_orders"]):
        out.append(f"  parameter logic [1:0] Order{camel(order['name'])} = 2'd{value};  // {order['doc']}")
    out.append("")
    out += sv_struct(descriptor["fields"], "desc_t")
    bits = registers["address_bits"]
    out.append(f"  parameter int unsigned RegAddrBits = {bits};")
    for reg in registers["map"]:
        out.append(f"  parameter logic [{bits - 1}:0] Reg{camel(reg['name'])} = {bits}'h{reg['address']:03x};  // {reg['doc']}")
        if "count" in reg:
            out.append(f"  parameter int unsigned Reg{camel(reg['name'])}Count = {reg['count']};")
    out.append(f"  parameter logic [31:0] IdentityValue = 32'h{registers['identity_value']:08x};")
    out.append("")
    for value, name in enumerate(spec["activity"]):
        out.append(f"  parameter logic [1:0] Activity{camel(name)} = 2'd{value};")
    out.append("")
    out.append(f"  parameter int unsigned NumBlocks = {len(blocks)};")
    for index, block in enumerate(blocks):
        out.append(f"  parameter int unsigned Block{camel(block['name'])} = {index};")
    out += ["endpackage", ""]
    return "\n".join(out)


def named(fields):
    """The fields that a C++ record has, each with its lowest bit."""
    positions, lsb = [], 0
    for field in fields:
        if not field["name"].startswith("reserved"):
            positions.append((field, lsb))
        lsb += field["bits"]
    return positions


def cpp_struct(name, fields, doc):
    """A record of the fields; an opcode is an Opcode."""
    out = [f"/// {doc}", f"struct {name} {{"]
    for field, _ in named(fields):
        kind = "Opcode" if field["name"] == "opcode" else cpp_type(field["bits"])
        init = "Opcode::kNone" if field["name"] == "opcode" else ("false" if field["bits"] == 1 else "0")
        out.append(f"  {kind} {field['name']} = {init};  ///< {field['bits']} bits: {field['doc']}")
    return out + ["", f"  {name}Words pack() const;", f"  static {name} unpack(const {name}Words& words);", "};", ""]


def cpp_functions(name, letter, fields):
    out = [f"inline {name}Words {name}::pack() const {{", f"  {name}Words words{{}};"]
    for field, lsb in named(fields):
        out.append(f"  detail::put_bits(words, {lsb}, {field['bits']}, static_cast<std::uint64_t>({field['name']}));")
    out += ["  return words;", "}", "", f"inline {name} {name}::unpack(const {name}Words& words) {{", f"  {name} {letter};"]
    for field, lsb in named(fields):
        take = f"detail::take_bits(words, {lsb}, {field['bits']})"
        if field["bits"] == 1:
            out.append(f"  {letter}.{field['name']} = {take} != 0;")
        else:
            kind = "Opcode" if field["name"] == "opcode" else cpp_type(field["bits"])
            out.append(f"  {letter}.{field['name']} = static_cast<{kind}>({take});")
    out += [f"  return {letter};", "}", "", f"inline bool operator==(const {name}& a, const {name}& b) {{"]
    tests = [f"a.{f['name']} == b.{f['name']}" for f, _ in named(fields)]
    out.append("  return " + " &&\n         ".join(tests) + ";")
    return out + ["}", f"inline bool operator!=(const {name}& a, const {name}& b) {{ return !(a == b); }}", ""]


def cpp(spec):
    command, registers, blocks = spec["command"], spec["registers"], spec["blocks"]
    descriptor, orders = spec["descriptor"], spec["load_orders"]
    fields = named(command["fields"])
    out = [f"// {NOTE}", "// clang-format off", "#pragma once", "#include <array>", "#include <cstdint>", "#include <string_view>", "",
           "namespace moesaic::program {", ""]
    out += [f"inline constexpr unsigned kCommandWords = {command['words']};",
            "using CommandWords = std::array<std::uint32_t, kCommandWords>;",
            f"inline constexpr unsigned kDescriptorWords = {descriptor['words']};",
            "using DescriptorWords = std::array<std::uint32_t, kDescriptorWords>;", ""]
    out.append("enum class Opcode : std::uint8_t {")
    out += [f"  k{camel(op['name'])} = {op['value']},  ///< {op['doc']}" for op in command["opcodes"]]
    out += ["};", ""]
    out += cpp_struct("Command", command["fields"], "One command of the core, unpacked. pack() gives the words of the staging registers.")
    out += cpp_struct("Descriptor", descriptor["fields"],
                      "One plane of an expert to be loaded. pack() gives the words of the I/O staging registers.")
    out.append("/// Which of the waiting descriptors the I/O queue issues next.")
    out.append("enum class LoadOrder : std::uint8_t {")
    out += [f"  k{camel(order['name'])} = {value},  ///< {order['doc']}" for value, order in enumerate(orders)]
    out += ["};", f"inline constexpr std::array<std::string_view, {len(orders)}> kLoadOrderNames{{"
            + ", ".join(f'"{order["name"]}"' for order in orders) + "};", ""]
    out += ["namespace detail {",
            "template <class Words>",
            "constexpr void put_bits(Words& words, unsigned lsb, unsigned bits, std::uint64_t value) {",
            "  for (unsigned done = 0; done < bits;) {",
            "    const unsigned at = lsb + done, in_word = at % 32, take = bits - done < 32 - in_word ? bits - done : 32 - in_word;",
            "    const std::uint64_t mask = (std::uint64_t{1} << take) - 1;",
            "    words[at / 32] |= static_cast<std::uint32_t>(((value >> done) & mask) << in_word);",
            "    done += take;", "  }", "}",
            "template <class Words>",
            "constexpr std::uint64_t take_bits(const Words& words, unsigned lsb, unsigned bits) {",
            "  std::uint64_t value = 0;",
            "  for (unsigned done = 0; done < bits;) {",
            "    const unsigned at = lsb + done, in_word = at % 32, take = bits - done < 32 - in_word ? bits - done : 32 - in_word;",
            "    const std::uint64_t mask = (std::uint64_t{1} << take) - 1;",
            "    value |= ((std::uint64_t{words[at / 32]} >> in_word) & mask) << done;",
            "    done += take;", "  }", "  return value;", "}", "}  // namespace detail", ""]
    out += cpp_functions("Command", "c", command["fields"])
    out += cpp_functions("Descriptor", "d", descriptor["fields"])
    out.append("/// Bit position and width of each field in the packed command, in order.")
    out.append("struct FieldInfo {\n  std::string_view name;\n  unsigned lsb;\n  unsigned bits;\n};")
    out.append(f"inline constexpr std::array<FieldInfo, {len(fields)}> kFields{{{{")
    out += [f"    {{\"{f['name']}\", {lsb}, {f['bits']}}}," for f, lsb in fields]
    out += ["}};", "", "/// AXI4-Lite byte addresses."]
    for reg in registers["map"]:
        out.append(f"inline constexpr std::uint32_t kReg{camel(reg['name'])} = 0x{reg['address']:03x};  ///< {reg['doc']}")
    out.append(f"inline constexpr std::uint32_t kIdentityValue = 0x{registers['identity_value']:08x};")
    out += ["", "/// What a block did in a cycle: exactly one of these.", "enum class Activity : std::uint8_t {"]
    out += [f"  k{camel(name)} = {value}," for value, name in enumerate(spec["activity"])]
    out += ["};", "", f"inline constexpr unsigned kNumBlocks = {len(blocks)};"]
    out.append("enum class Block : std::uint8_t {")
    out += [f"  k{camel(b['name'])} = {i}," for i, b in enumerate(blocks)]
    out += ["};", "struct BlockInfo {\n  std::string_view name;\n  std::string_view event;  ///< what one busy cycle costs energy for\n};"]
    out.append(f"inline constexpr std::array<BlockInfo, kNumBlocks> kBlocks{{{{")
    out += [f"    {{\"{b['name']}\", \"{b['event']}\"}}," for b in blocks]
    out += ["}};", "", "}  // namespace moesaic::program", ""]
    return "\n".join(out)


def main():
    spec = yaml.safe_load(SOURCE.read_text())
    for record in ("command", "descriptor"):
        total = sum(field["bits"] for field in spec[record]["fields"])
        if total != 32 * spec[record]["words"]:
            sys.exit(f"{SOURCE}: {record}.fields: got {total} bits, expected {32 * spec[record]['words']}")
    outputs = {ROOT / "rtl/pkg/moe_commands_pkg.sv": system_verilog(spec), ROOT / "sim/program/commands.h": cpp(spec)}
    stale = [path for path, text in outputs.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)}: differs from rtl/pkg/commands.yaml; run tools/generate_commands.py", file=sys.stderr)
        sys.exit(1 if stale else 0)
    for path in stale:
        path.write_text(outputs[path])


if __name__ == "__main__":
    main()
