"""Bad input on the command line: one clear line, a non-zero exit, no panic."""

import socket
import tomllib

import pytest

from plant import ROOT, run_to_end

# As `tickerplant --help` lists them.
BAD_CONFIGURATION, FEED_CANNOT_OPEN, CANNOT_LISTEN = 2, 3, 4


def assert_one_clear_line(result, code, *mentions):
    assert result.returncode == code, result
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    for mention in mentions:
        assert mention.lower() in lines[0].lower(), lines[0]
    assert "panicked" not in result.stderr


def serve(*arguments):
    return run_to_end("serve", "--listen", "127.0.0.1:0", *arguments)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert_one_clear_line(run_to_end("serve", "--listen", address), CANNOT_LISTEN, address)


def test_a_file_that_is_missing(tmp_path):
    assert_one_clear_line(
        serve("--feed", f"recording:{tmp_path / 'nothing.csv'}"), FEED_CANNOT_OPEN, "nothing.csv", "no such file"
    )


def test_a_corrupt_zst(tmp_path):
    path = tmp_path / "broken.dbn.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(range(200)))
    assert_one_clear_line(serve("--feed", f"recording:{path}"), FEED_CANNOT_OPEN, "broken.dbn.zst")


def test_a_zst_that_is_none(tmp_path):
    path = tmp_path / "plain.dbn.zst"
    path.write_bytes(b"this is no zstd frame")
    assert_one_clear_line(serve("--feed", f"recording:{path}"), FEED_CANNOT_OPEN, "plain.dbn.zst")


@pytest.mark.parametrize("content", ["a,b,c\n1,2,3\n", "", "exchange,symbol,timestamp\nx,y,1\n"])
def test_a_csv_with_a_wrong_header(tmp_path, content):
    path = tmp_path / "wrong.csv"
    path.write_text(content)
    assert_one_clear_line(serve("--feed", f"recording:{path}"), FEED_CANNOT_OPEN, "wrong.csv")


def test_a_file_of_an_unknown_kind(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert_one_clear_line(serve("--feed", f"recording:{path}"), FEED_CANNOT_OPEN, "notes.txt")


def test_an_unknown_key_in_the_file_names_the_nearest(tmp_path):
    path = tmp_path / "tickerplant.toml"
    path.write_text('listn = "127.0.0.1:0"\n')
    assert_one_clear_line(run_to_end("serve", "--config", path), BAD_CONFIGURATION, "listn", "listen")


def test_an_unknown_variable_names_the_nearest():
    result = run_to_end("serve", "--listen", "127.0.0.1:0", env={"TICKERPLANT_SIM_RAET": "5"})
    assert_one_clear_line(result, BAD_CONFIGURATION, "sim_raet", "sim_rate")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "nowhere"),
        ("--feed", "pigeon"),
        ("--sim-rate", "0"),
        ("--sim-rate", "fast"),
        ("--sim-symbols", "0"),
        ("--replay-speed", "-1"),
        ("--on-bad-record", "cry"),
        ("--no-such-flag",),
    ],
)
def test_a_wrong_value_is_refused(arguments):
    result = run_to_end("serve", *arguments)
    assert result.returncode == BAD_CONFIGURATION
    assert result.stderr.strip()
    assert "panicked" not in result.stderr


def test_check_config_shows_what_takes_precedence(tmp_path):
    path = tmp_path / "tickerplant.toml"
    path.write_text("sim_rate = 11.0\nsim_symbols = 12\nsim_seed = 13\n")
    env = {"TICKERPLANT_SIM_SYMBOLS": "22", "TICKERPLANT_SIM_SEED": "23"}
    result = run_to_end("check-config", "--config", path, "--sim-seed", "33", env=env)
    assert result.returncode == 0, result
    settings = tomllib.loads(result.stdout)
    assert (settings["sim_rate"], settings["sim_symbols"], settings["sim_seed"]) == (11, 22, 33)


def test_the_shipped_configuration_is_valid():
    result = run_to_end("check-config", "--config", ROOT / "config/tickerplant.toml")
    assert result.returncode == 0, result


def test_the_start_says_where_to_look(plant):
    server = plant("--sim-rate", 10)
    server.close()
    text = "\n".join(server.lines)
    assert server.ws in text
    assert "/metrics" in text
