"""The examples beside the README's: each runs by its one script and leaves what it says."""

import os
import re
import subprocess

import pytest

import flint

EXAMPLES = flint.REPO / "examples"


def run(script, *args):
    environment = {
        **flint.clean_environment(), "FLINT": flint.BINARY,
        # Beside the other builds, so that the example's folder stays as it is.
        "CARGO_TARGET_DIR": str(flint.REPO / "target/examples"),
    }
    done = subprocess.run(
        [EXAMPLES / script, *args], capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", ["thumbnail-node", "thumbnail-rust"])
def test_a_twin_makes_the_thumbnail(example, tmp_path):
    picture = tmp_path / "out.jpg"
    said = run(f"{example}/run", str(picture))
    assert f"function   created {example}: " in said and "\ncold " in said and "\nwarm " in said, said
    start = picture.read_bytes()
    assert start[:3] == b"\xff\xd8\xff" and len(start) > 2000
    assert not [f for f in os.listdir(EXAMPLES / example) if f in ("node_modules", "target")]


def test_a_streamed_answer_arrives_line_by_line():
    times = [int(ms) for ms in re.findall(r"^ *(\d+) ms  ", run("countdown/run"), re.MULTILINE)]
    assert len(times) == 6 and times[-1] - times[0] >= 900, times


def test_failed_orders_come_back_after_the_fix():
    said = run("orders/run")
    assert "4 failures of 2 causes" in said and "KeyError at app.py:9 in price" in said, said
    assert "ZeroDivisionError at app.py:13 in boxes" in said
    story = said.split("$ flint events show", 1)[1].split("$ flint replay", 1)[0]
    assert "checkout" in story and "-> orders-dead" in story and story.count("trace ") == 1, story
    assert "it fails as before" in said and "it failed, and does not any more" in said
    assert "4 of 4 failures brought back" in said and "12 of 12 orders shipped" in said and said.rstrip().endswith("nothing waits"), said
