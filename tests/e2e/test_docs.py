"""The check of the documents finds what is broken, and lays out the book from the repository's own files."""

import subprocess
import sys

import pytest

from plant import ROOT

SCRIPT = ROOT / "scripts/docs"


def docs(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def tree(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/book.toml").write_text("")
    (tmp_path / "docs/picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "docs/SUMMARY.md").write_text("# Summary\n\n[Home](../README.md)\n- [One](one.md)\n")
    (tmp_path / "README.md").write_text(
        "# Home\n\n[one](docs/one.md#the-second-part) [here](#home) [far](https://example.org/#x) "
        "![p](docs/picture.png)\n"
    )
    (tmp_path / "docs/one.md").write_text(
        "# One\n\n## The `second` part\n\n[back](../README.md#home)\n\n"
        "```md\n[code](nowhere.md)\n```\n`[code](nowhere.md)`\n"
    )
    return tmp_path


def test_the_projects_own_documents_point_to_what_is_there():
    done = docs("check")
    assert done.returncode == 0, done.stderr


def test_a_tree_without_mistakes_is_fine(tree):
    done = docs("check", "--root", tree)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("README.md", "[x](docs/two.md)", "README.md:4: docs/two.md: there is no such file"),
        ("README.md", "[![x](docs/no.png)](docs/one.md)", "README.md:4: docs/no.png: there is no such file"),
        ("README.md", '<img src="docs/no.png">', "README.md:4: docs/no.png: there is no such file"),
        ("README.md", "[x]: docs/two.md", "README.md:4: docs/two.md: there is no such file"),
        ("README.md", "[x](docs/one.md#third)", "README.md:4: docs/one.md#third: docs/one.md has no such heading"),
        ("docs/one.md", "[x](../../outside.md)", "docs/one.md:11: ../../outside.md: there is no such file"),
        ("docs/two.md", "# Two\n", "docs/SUMMARY.md: docs/two.md is not in it"),
    ],
)
def test_a_broken_link_is_named_with_its_line(tree, file, text, complaint):
    path = tree / file
    path.write_text((path.read_text() if path.exists() else "") + text + "\n")
    done = docs("check", "--root", tree)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [complaint]


def test_the_book_is_made_of_the_repositorys_files(tree):
    folder = tree / "target"
    assert docs("stage", folder, "--root", tree).returncode == 0
    source = folder / "src"
    assert (source / "SUMMARY.md").read_text() == "# Summary\n\n[Home](README.md)\n- [One](docs/one.md)\n"
    for name in ("README.md", "docs/one.md", "docs/picture.png"):
        assert (source / name).read_bytes() == (tree / name).read_bytes()


def test_a_broken_link_of_the_site_is_named(tmp_path):
    (tmp_path / "index.html").write_text('<h1 id="a">A</h1><a href="#a">x</a><a href="b.html#c">x</a>')
    (tmp_path / "b.html").write_text('<a href="index.html#a">x</a><img src="no.png">')
    done = docs("check-site", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "b.html:1: no.png: there is no such file",
        "index.html:1: b.html#c: no such place in the page",
    ]
