"""Memory of a long run is flat."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = "import sys; from pathlib import Path; from tests.endurance.memory import measure\n"
CODE += "print(measure(int(sys.argv[1]), Path(sys.argv[2])).slope)"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_tasks(tmp_path):
    command = [sys.executable, "-c", CODE, "1000", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    # A part that is kept in memory would be more than 4 KiB a task.
    assert float(result.stdout) < 1024.0
