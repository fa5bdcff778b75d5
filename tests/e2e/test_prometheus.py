"""The files for Prometheus and Grafana in `deploy`, on a real Prometheus that scrapes a real server."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml

from plant import ROOT

DEPLOY = ROOT / "deploy"
WAIT_S = 90


@pytest.fixture(scope="session")
def prometheus_is_here():
    subprocess.run([ROOT / "scripts/ensure-package", "prometheus"], check=True, capture_output=True)
    return shutil.which("prometheus"), shutil.which("promtool")


def rules():
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def dashboard():
    """Each query as Grafana would send it."""
    panels = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
    for panel in panels:
        for target in panel["targets"]:
            query = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "10s")
            assert "$" not in query, f"{panel['title']}: {query}"
            yield panel["title"], query


def test_the_rules_are_sound_and_each_alert_fires_when_it_should(prometheus_is_here):
    _, promtool = prometheus_is_here
    for arguments in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")):
        done = subprocess.run([promtool, *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (DEPLOY / "alerts.test.yml").read_text()
    for alert in rules():
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:", tested), f"{alert} is never seen to fire"


def test_every_metric_that_is_asked_for_exists(plant):
    served = set(re.findall(r"^# TYPE (\S+)", urllib.request.urlopen(f"{plant().http}/metrics").read().decode(), re.M))
    for where, query in [*rules().items(), *dashboard()]:
        names = re.findall(r"\btickerplant_\w+", query)
        assert names or query.startswith("up"), where
        for name in names:
            assert name in served or name.removesuffix("_bucket") in served, f"{where}: {name}"


async def test_queries_return_data(prometheus_is_here, plant, session, tmp_path):
    server = plant("--sim-rate", 2000, "--record", tmp_path / "day.tprec")
    client = await session(server.ws)
    await client.subscribe(["trades", "quotes"], ["*"])
    reading = asyncio.create_task(client.until(lambda: False, WAIT_S))
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [server.address]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    # Prometheus says nowhere which port it took, so it gets one that is free now.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus_is_here[0],
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stderr=log,
            stdout=log,
        )

    def ask(path, **query):
        url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise AssertionError(f"{query}: {error.read().decode()}") from error
            return None
        except urllib.error.URLError:
            assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
            return None

    async def has_data(query):
        """Waits until there is a value; it takes two scrapes."""
        while True:
            answer = await asyncio.to_thread(ask, "query", query=query)
            values = [float(each["value"][1]) for each in answer["result"]] if answer else []
            if any(value == value for value in values):
                return

    try:
        for _, query in dashboard():
            await has_data(query)
        # What an alert compares with its threshold is there too, also while the alert is not.
        for expression in rules().values():
            for compared in re.findall(r"(?:tickerplant_\w+|up)(?:\{[^}]*\})?", expression):
                await has_data(compared)
        groups = ask("rules")["groups"]
        states = {rule["name"]: (rule["health"], rule["state"]) for group in groups for rule in group["rules"]}
        assert set(states) == set(rules())
        assert all(state == "inactive" for _, state in states.values()), states
        assert all(health in ("ok", "unknown") for health, _ in states.values()), states
    finally:
        reading.cancel()
        process.terminate()
        process.wait(WAIT_S)
