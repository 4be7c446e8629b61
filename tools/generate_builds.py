#!/usr/bin/env python3
"""Turns rtl/builds.yaml into what the build system needs.

usage: generate_builds.py --cmake FILE    lists MOESAIC_BUILDS and MOESAIC_BUILD_<name>_PARAMS
       generate_builds.py --cpp FILE      the table of builds as C++
A file is written only when its text changes.
"""
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "rtl/builds.yaml"
# Key in builds.yaml and member of CoreParams: parameter of moe_core.
PARAMETERS = {
    "rows": "Rows", "cols": "Cols", "planes_per_cycle": "PlanesPerCycle", "max_act_bits": "MaxActBits",
    "axi_data_bits": "AxiDataWidth", "max_tokens": "MaxTokens", "act_depth": "ActDepth",
    "hidden_depth": "HiddenDepth", "fifo_depth": "FifoDepth", "command_depth": "CommandDepth",
    "io_depth": "IoDepth", "io_credits": "IoCredits", "io_jobs": "IoJobs",
}


def read_builds():
    builds = yaml.safe_load(SOURCE.read_text())["builds"]
    for name, values in builds.items():
        if set(values) != set(PARAMETERS):
            sys.exit(f"{SOURCE}: builds.{name}: got keys {sorted(values)}, expected {sorted(PARAMETERS)}")
    return builds


def cmake_text(builds):
    lines = [f"set(MOESAIC_BUILDS {' '.join(builds)})"]
    for name, values in builds.items():
        lines.append(f"set(MOESAIC_BUILD_{name}_PARAMS {' '.join(f'{PARAMETERS[k]}={values[k]}' for k in PARAMETERS)})")
    return "\n".join(lines) + "\n"


def cpp_text(builds):
    lines = ["// From rtl/builds.yaml.", '#include "sim/cosim/builds.h"', "", "namespace moesaic::cosim {", ""]
    lines += [f"std::unique_ptr<CoreEngine> make_{name}(const program::CoreParams& params);" for name in builds]
    lines += ["", "const std::vector<Build>& builds() {", "  static const std::vector<Build> all = [] {", "    std::vector<Build> list;"]
    for name, values in builds.items():
        lines.append("    {")
        lines.append("      program::CoreParams p;")
        lines += [f"      p.{key} = {values[key]};" for key in PARAMETERS]
        lines.append(f'      list.push_back({{"{name}", p, make_{name}}});')
        lines.append("    }")
    lines += ["    return list;", "  }();", "  return all;", "}", "", "}  // namespace moesaic::cosim", ""]
    return "\n".join(lines)


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("--cmake", "--cpp"):
        print(__doc__, file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    builds = read_builds()
    text = cmake_text(builds) if sys.argv[1] == "--cmake" else cpp_text(builds)
    path = pathlib.Path(sys.argv[2])
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


if __name__ == "__main__":
    main()
