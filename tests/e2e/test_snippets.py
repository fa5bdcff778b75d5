"""Every snippet of the documents, exactly as it stands there, except that it talks to the test's server.

A snippet that cannot be run has a line `<!-- not run: REASON -->` right above it. What is in a language that is not in
`RUNNERS` (`text`, `json`, ...) is no program.
"""

import functools
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

import plant as plants
from peers import node_flags

ROOT = plants.ROOT
TYPESCRIPT = ROOT / "examples/typescript"
ADDRESS = "127.0.0.1:8080"
DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *(ROOT / name for name in ("web/README.md", "web/sdk/README.md", "loadtest/README.md", "sdk/python/README.md")),
        *ROOT.glob("crates/*/README.md"),
        *ROOT.glob("examples/**/README.md"),
    }
    - {ROOT / "CHANGELOG.md"}
)
# Where another test runs all of a document's snippets: that file, and words that it would not have otherwise.
ELSEWHERE = {
    ("web/sdk/README.md", "js"): ("web/e2e/sdk.spec.ts", "sdk/README.md"),
    ("sdk/python/README.md", "python"): ("sdk/python/tests/test_readme.py", "README.md"),
    ("crates/websocket/README.md", "rust"): ("crates/websocket/src/lib.rs", 'include_str!("../README.md")'),
}
# Endless programs are ended once they have printed so many lines.
LINES = 5
WAIT_S = 100
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->\n\Z")


class Snippet(NamedTuple):
    document: str
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def name(self):
        return f"{self.document}:{self.line}"


@functools.cache
def snippets():
    found = []
    for path in filter(Path.exists, DOCUMENTS):
        if "node_modules" in path.parts:
            continue
        text = path.read_text()
        for match in FENCE.finditer(text):
            before = text[: match.start()]
            reason = NOT_RUN.search(before)
            language = match[1].split(",")[0]
            document = str(path.relative_to(ROOT))
            found.append(Snippet(document, before.count("\n") + 1, language, match[2], reason and reason[1]))
    return found


def run(command, enough, **keys):
    """Runs a program until it ends or has printed enough lines; gives them and the exit code (`None`: endless)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keys)
    # One that prints nothing is ended too, so that its output ends and the test can say so.
    deadline = threading.Timer(WAIT_S, process.kill)
    deadline.start()
    errors = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
    reader.start()
    try:
        lines = [line for line, _ in zip(process.stdout, range(enough), strict=False)]
        code = process.wait(1 if len(lines) == enough else WAIT_S)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        deadline.cancel()
        process.kill()
        process.wait()
        reader.join(WAIT_S)
        process.stdout.close()
    return lines, code, "".join(errors)


def prints_a_market(command, **keys):
    lines, code, errors = run(command, LINES, **keys)
    assert code in (0, None) or len(lines) == LINES, f"exit code {code}: {errors}"
    assert any(re.search(r"\d", line) for line in lines), f"printed {lines} and {errors}"


def run_python(text, server, folder):
    program = folder / "program.py"
    program.write_text(text.replace(ADDRESS, server.address))
    sdk = {"PYTHONPATH": str(ROOT / "sdk/python/src")}
    prints_a_market([sys.executable, "-u", str(program)], cwd=folder, env=plants.environment() | sdk)


def run_javascript(text, server, folder):
    # Node looks for packages beside the file, so it has to lie where they are.
    program = TYPESCRIPT / "node_modules" / f".snippet-{os.getpid()}.mjs"
    program.write_text(text.replace(ADDRESS, server.address))
    try:
        prints_a_market(["node", *node_flags(), str(program)], cwd=folder)
    finally:
        program.unlink()


# What listens takes any port, and what connects finds the test's server.
WRAPPER = """#!/bin/sh
case "$1" in
  serve) shift; exec "{binary}" serve "$@" --listen 127.0.0.1:0 ;;
  instruments | tail | book) exec "{binary}" "$@" --url "{url}" ;;
  *) exec "{binary}" "$@" ;;
esac
"""


def run_shell(text, server, folder):
    """Each command ends with 0, or prints something and goes on until it is ended."""
    (folder / "bin").mkdir()
    wrapper = folder / "bin/tickerplant"
    wrapper.write_text(WRAPPER.format(binary=plants.BINARY, url=server.ws))
    wrapper.chmod(0o755)
    environment = plants.environment() | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    text = re.sub(r" --listen \S+", "", text).replace(ADDRESS, server.address)
    for command in text.replace("\\\n", " ").splitlines():
        lines, code, errors = run(["bash", "-c", f"exec {command}"], 1, cwd=folder, env=environment)
        assert code == 0 or (code is None and lines), f"{command}: exit code {code}, printed {lines} and {errors}"


RUNNERS = {"python": run_python, "js": run_javascript, "sh": run_shell, "console": run_shell, "rust": None}
RUNNABLE = [one for one in snippets() if one.language in RUNNERS and one.reason is None]
HERE = [one for one in RUNNABLE if (one.document, one.language) not in ELSEWHERE]


@pytest.mark.parametrize("snippet", HERE, ids=lambda snippet: snippet.name)
def test_a_snippet_works_as_pasted(plant, tmp_path, snippet, request):
    runner = RUNNERS[snippet.language]
    assert runner, f"{snippet.name}: nothing runs {snippet.language} here; say where it is run, or why not"
    if "day.dbn.zst" in snippet.text:
        recordings = request.getfixturevalue("recordings")
        (tmp_path / "day.dbn.zst").symlink_to(recordings / "es_mbp-1_2024-07-01.dbn.zst")
    runner(snippet.text, plant("--sim-scenario", "busy"), tmp_path)


def test_what_is_run_elsewhere_is_run_there():
    for (document, language), (test, words) in ELSEWHERE.items():
        assert any((one.document, one.language) == (document, language) for one in RUNNABLE), document
        assert words in (ROOT / test).read_text(), test


def test_the_main_documents_have_snippets_that_are_run():
    documents = {one.document for one in RUNNABLE}
    assert documents >= {"README.md", "docs/getting-started.md", "docs/security.md", "web/sdk/README.md"}


def test_a_reason_stands_above_a_snippet_and_nowhere_else():
    reasons = sum(len(re.findall("^<!-- not run:", path.read_text(), re.M)) for path in DOCUMENTS if path.exists())
    assert reasons == sum(one.reason is not None for one in snippets())
