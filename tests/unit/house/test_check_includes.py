"""The include check reports an upward include, and only that."""
import importlib.util
import pathlib
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("check_includes", ROOT / "tools" / "check_includes.py")
check_includes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_includes)


class CheckIncludes(unittest.TestCase):
    def offences(self, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return list(check_includes.offences(pathlib.Path(folder)))

    def test_an_upward_include_is_reported_with_its_line(self):
        found = self.offences({"base/a.h": '#pragma once\n#include "mapping/b.h"\n', "mapping/b.h": ""})
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0].startswith("base/a.h:2: include: got mapping/b.h"), found)

    def test_a_downward_include_is_not_reported(self):
        self.assertEqual(self.offences({"mapping/a.h": '#include "base/b.h"\n', "base/b.h": ""}), [])

    def test_a_file_outside_every_floor_is_reported(self):
        self.assertEqual(len(self.offences({"sim/stray.h": ""})), 1)


if __name__ == "__main__":
    unittest.main()
