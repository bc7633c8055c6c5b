"""paddle.hub finds an entry for each bundled network, from any folder, and loads what `infer` loads."""

import importlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import weights

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]

# Of each entry: its class, and a checksum of its parameters; as an entry is loaded where the suite is not installed.
LOAD = """
import json, sys, zlib, paddle
repository = sys.argv[1]
found = {}
for name in paddle.hub.list(repository, source="local"):
    network = paddle.hub.load(repository, name, source="local")
    crc = 0
    for key, value in sorted(network.state_dict().items()):
        crc = zlib.crc32(value.numpy().tobytes(), crc)
    doc = paddle.hub.help(repository, name, source="local")
    found[name] = [type(network).__name__, crc, network.training, doc]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", LOAD, str(ROOT)]
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_one_entry_for_each_bundled_network(entries):
    assert sorted(entries) == sorted(weights.read_manifest())


@pytest.mark.parametrize("name", weights.read_manifest())
def test_an_entry_is_what_infer_loads(entries, name):
    paper = weights.read_manifest()[name]["paper"]
    network = importlib.import_module(f"{paper}.infer").load(weights.find(name))
    crc = 0
    for _, value in sorted(network.state_dict().items()):
        crc = zlib.crc32(value.numpy().tobytes(), crc)
    kind, found, training, doc = entries[name]
    assert (kind, found, training) == (type(network).__name__, crc, False)
    assert f"{paper}.infer." in doc
