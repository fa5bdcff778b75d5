"""The systemd unit and the container file, as far as they can be looked at without systemd and without containers."""

import os
import re
import shutil
import subprocess

import pytest

from plant import BINARY, ROOT, run_to_end

UNIT = ROOT / "deploy/tickerplant.service"
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text()


@pytest.fixture
def unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        print("not run: there is no systemd-analyze")
        pytest.skip("not run: there is no systemd-analyze")
    # Whether the program is where it will be installed is not the question.
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/usr/local/bin/tickerplant", str(BINARY)))
    return here


def analyze(*arguments):
    environment = os.environ | {"SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )


def test_the_unit_is_sound(unit):
    done = analyze("verify", unit)
    # It also speaks of other units of the machine.
    assert (done.returncode, UNIT.name in done.stderr) == (0, False), done.stderr


def test_the_unit_leaves_little_to_attack(unit):
    # Of 10; 1.2 when this was written. Lower would cost the network.
    done = analyze("security", "--offline=true", "--threshold=15", unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_starts_what_there_is_and_waits_for_the_drain(tmp_path):
    text = UNIT.read_text()
    command = re.search(r"^ExecStart=/usr/local/bin/tickerplant (.*) --config (\S+)$", text, re.M)
    assert command, text
    assert command[1] == "serve"
    done = run_to_end("check-config", "--config", ROOT / "config/tickerplant.toml")
    assert done.returncode == 0, done.stderr
    drain_ms = int(re.search(r"^drain_ms = (\d+)", done.stdout, re.M)[1])
    assert int(re.search(r"^TimeoutStopSec=(\d+)s$", text, re.M)[1]) * 1000 >= 2 * drain_ms
    secrets = re.findall(r"^# Environment=(TICKERPLANT_\w+)=%d/(\S+)$", text, re.M)
    assert secrets
    (tmp_path / "admin.key").write_text("x" * 40)
    done = run_to_end("check-config", env={name: str(tmp_path / file) for name, file in secrets})
    assert done.returncode == 0, done.stderr


def test_the_image_runs_as_nobody_in_particular():
    last_stage = CONTAINERFILE.split("\nFROM ")[-1]
    (user,) = re.findall(r"^USER (\d+):(\d+)$", last_stage, re.M)
    assert all(int(number) > 0 for number in user)
    assert not re.search(r"^(RUN|ADD)\b", last_stage, re.M), "nothing is installed in it"
    variables = re.search(r"^ENV (.*)$", last_stage, re.M)[1]
    given = dict(pair.split("=", 1) for pair in variables.split())
    refused = run_to_end("check-config", env=given)
    assert refused.returncode == 2, "an image that is run as it is serves nobody by mistake"
    assert "keys" in refused.stderr
    assert run_to_end("check-config", "--auth", "off", env=given).returncode == 0
