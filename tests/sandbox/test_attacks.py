"""Every attack is contained, under every design, as root and not; nothing is left of it."""

import os
import subprocess
import sys

import pytest

from groupwise.sandbox.designs import DESIGNS
from tests.sandbox.arena import fought
from tests.sandbox.attacks import ATTACKS

linux = pytest.mark.skipif(sys.platform != "linux", reason="the designs are Linux's")


def fight(design: str, user: str) -> dict[str, str]:
    if user == "root" and os.geteuid() != 0:
        pytest.skip("the tests are not run as root")
    found = fought(design, user == "root", ATTACKS)
    assert "raised" not in found, found["raised"]
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    return found


@linux
@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_attack_is_contained_and_leaves_nothing(design, user):
    found = fight(design, user)
    assert set(found) == {*ATTACKS, "survivors"}
    assert {name: what for name, what in found.items() if what} == {}


@linux
@pytest.mark.parametrize("attack", ["read a file", "sockets", "fork"])
def test_without_a_sandbox_the_same_programs_get_through(attack, tmp_path):
    (tmp_path / "secret").write_text("secret")
    program = ATTACKS[attack].program(str(tmp_path), os.getpid())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "THROUGH" in done.stdout
