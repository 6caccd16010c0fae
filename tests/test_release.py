"""What packaging/release.py writes into a checkout, read back by other parsers, and when it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

tomllib = pytest.importorskip("tomllib", reason="releases are made with Python 3.11 or later")
ROOT = Path(__file__).parents[1]
HOME, VERSION, DATE = "https://forge.example/some-one/nrc_fast", "3.1.4", "2026-02-28"
URLS = {
    "Homepage": HOME,
    "Documentation": f"{HOME}/tree/v{VERSION}/docs",
    "Changelog": f"{HOME}/blob/v{VERSION}/CHANGELOG.md",
    "Issues": f"{HOME}/issues",
    "Source": f"{HOME}/tree/v{VERSION}",
}
WRITTEN = ["CITATION.cff", "README.md", "pyproject.toml"]
READ = [*WRITTEN, "CHANGELOG.md", "nrc_fast/base/version.py"]


def release(checkout: Path, home: str = HOME, tag: str = f"v{VERSION}") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / "packaging" / "release.py", "--home", home, "--tag", tag]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def replace(path: Path, pattern: str, text: str) -> None:
    new, count = re.subn(pattern, text, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(new, encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a release reads, with a version and a date, and without git."""
    if re.search(r"^\[project\.urls\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE):
        pytest.skip("these are the files of a release already")
    copy = tmp_path / "checkout"
    for name in ["docs", "bench/results", "packaging"]:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in [*READ, "LICENSE", "CONTRIBUTING.md", "bench/README.md", "nrc_fast/__init__.py"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    replace(copy / "CHANGELOG.md", r"^## \[.*$", f"## [{VERSION}] - {DATE}")
    replace(copy / "nrc_fast" / "base" / "version.py", r"^__version__ = .*$", f'__version__ = "{VERSION}"')
    citation = re.sub(
        r"^date-released: .*\n", "", (copy / "CITATION.cff").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    (copy / "CITATION.cff").write_text(citation, encoding="utf-8")
    replace(copy / "CITATION.cff", r"^version: .*$", f"version: {VERSION}\ndate-released: {DATE}")
    return copy


def contents(checkout: Path) -> dict[str, bytes]:
    return {name: (checkout / name).read_bytes() for name in READ}


def links(text: str) -> list[tuple[str, str]]:
    """The targets in Markdown, as its own parser finds them: each of an image or of a link."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    found: list[tuple[str, str]] = []

    def look(tokens: Any) -> None:
        for token in tokens:
            attribute = {"image": "src", "link_open": "href"}.get(token.type)
            if attribute is not None:
                found.append((token.type, token.attrs[attribute]))
            found.extend(
                ("html", target)
                for target in re.findall(r'(?:src|href)="(.*?)"', token.content if "html" in token.type else "")
            )
            look(token.children or [])

    look(parser.parse(text))
    return found


def without_targets(text: str) -> str:
    """What Markdown shows, wherever its links lead."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    return re.sub(r'(src|href)=".*?"', "", parser.render(text))


# ---- what it writes ----


def test_links_of_the_readme_lead_to_the_tag(checkout: Path) -> None:
    before = (checkout / "README.md").read_text(encoding="utf-8")
    made = release(checkout)
    assert made.returncode == 0, made.stderr
    after = (checkout / "README.md").read_text(encoding="utf-8")
    relative = [target for _, target in links(before) if "://" not in target]
    assert len(relative) > 10
    expected = []
    for kind, target in links(before):
        form = "raw" if kind == "image" else "tree" if (ROOT / target).is_dir() else "blob"
        expected.append((kind, target if "://" in target else f"{HOME}/{form}/v{VERSION}/{target}"))
    assert links(after) == expected
    assert without_targets(after) == without_targets(before)


README = """\
# Title

[a page](docs/index.md), [part](docs/index.md#what "with a title"), [here](#title), [a folder](docs), [out](https://b.example/c),
[mail](mailto:a@b.example), [up](docs/../LICENSE), `code[:2](docs/index.md)`, ``two ` ticks ](LICENSE)``, f[1] (LICENSE)
[![figure](docs/index.md)](<CHANGELOG.md>), <img src="docs/index.md" alt="">, <a href='LICENSE'>terms</a>, [b][r]

```python
model[:2](LICENSE)
```

~~~
![figure](LICENSE)
~~~

[r]: bench/README.md
"""


def test_every_kind_of_link_and_no_code(checkout: Path) -> None:
    (checkout / "README.md").write_text(README, encoding="utf-8")
    made = release(checkout)
    assert made.returncode == 0, made.stderr
    at = f"/v{VERSION}/"
    wanted = README
    for old, new in [
        ("[a page](", f"[a page]({HOME}/blob{at}"),
        ("[part](", f"[part]({HOME}/blob{at}"),
        ("[here](", f"[here]({HOME}/blob{at}README.md"),
        ("[a folder](", f"[a folder]({HOME}/tree{at}"),
        ("[up](docs/../", f"[up]({HOME}/blob{at}"),
        ("[![figure](", f"[![figure]({HOME}/raw{at}"),
        ("](<", f"](<{HOME}/blob{at}"),
        ('<img src="', f'<img src="{HOME}/raw{at}'),
        ("<a href='", f"<a href='{HOME}/blob{at}"),
        ("[r]: ", f"[r]: {HOME}/blob{at}"),
    ]:
        assert wanted.count(old) == 1
        wanted = wanted.replace(old, new)
    assert (checkout / "README.md").read_text(encoding="utf-8") == wanted
    assert all(re.match(r"https://|mailto:", target) for _, target in links(wanted))


def test_pyproject_has_the_addresses_and_is_otherwise_as_before(checkout: Path) -> None:
    before = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    release(checkout)
    after = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    parsed = tomllib.loads(after)
    assert parsed["project"].pop("urls") == URLS
    assert parsed == tomllib.loads(before)
    (table,) = re.findall(r"^\[project\.urls\]\n(?:\w+ = .*\n)+\n", after, re.MULTILINE)
    assert after.replace(table, "") == before
    pytest.importorskip("validate_pyproject.api").Validator()(tomllib.loads(after))


def test_the_citation_has_the_repository(checkout: Path) -> None:
    before = (checkout / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    release(checkout)
    after = (checkout / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    new = f'repository-code: "{HOME}"'
    assert [line for line in after if line != new] == before
    assert after.count(new) == 1


def described(data: bytes) -> tuple[dict[str, str], Message]:
    metadata = message_from_bytes(data)
    return dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", [])), metadata


def test_what_an_index_shows_of_both_distributions(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("scikit_build_core")
    release(checkout)
    code = "import sys; from scikit_build_core.build import {0}; print({0}(sys.argv[1]))"
    made = {}
    for hook in ("prepare_metadata_for_build_wheel", "build_sdist"):
        command = [sys.executable, "-c", code.format(hook), str(tmp_path)]
        result = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
        made[hook] = tmp_path / result.stdout.split()[-1]
    with tarfile.open(made["build_sdist"]) as archive:
        member = archive.extractfile(f"nrc_fast-{VERSION}/PKG-INFO")
        assert member is not None
        of_source = member.read()
    for data in (of_source, (made["prepare_metadata_for_build_wheel"] / "METADATA").read_bytes()):
        urls, metadata = described(data)
        assert urls == URLS
        assert metadata["Version"] == VERSION
        description = data.decode("utf-8").partition("\n\n")[2]
        assert len(links(description)) > 10
        assert [target for _, target in links(description) if not target.startswith("https://")] == []
        pytest.importorskip("packaging.metadata").Metadata.from_email(data)  # which checks every field


def test_a_second_time_nothing_changes(checkout: Path) -> None:
    first = release(checkout)
    assert first.stdout == f"v{VERSION} of {HOME}: {', '.join(WRITTEN)} written\n"
    once = contents(checkout)
    second = release(checkout)
    assert second.stdout == f"v{VERSION} of {HOME}: nothing written\n"
    assert contents(checkout) == once


# ---- when it refuses ----


@pytest.mark.parametrize(
    ("name", "pattern", "text", "message"),
    [
        (
            "CHANGELOG.md",
            rf" - {DATE}$",
            " - unreleased",
            rf"CHANGELOG.md has ## \[{VERSION}\] - unreleased; .*YYYY-MM-DD",
        ),
        ("CHANGELOG.md", rf" - {DATE}$", " - 2026-02-29", r"2026-02-29; a release has its date there"),
        ("CHANGELOG.md", rf" - {DATE}$", " - 20260228", r"20260228; a release has its date there"),
        ("CHANGELOG.md", rf"^## \[{VERSION}\]", "## [3.1.5]", r"CHANGELOG.md has 0 lines with ## \[3\.1\.4\]"),
        ("CITATION.cff", r"^version: .*$", "version: 3.1.3", r"CITATION.cff says version 3\.1\.3; expected is 3\.1\.4"),
        ("CITATION.cff", r"^date-released: .*\n", "", r"CITATION.cff has 0 lines with date-released"),
        (
            "CITATION.cff",
            r"^(date-released: ).*$",
            r"\g<1>2026-03-01",
            r"date-released 2026-03-01; expected is 2026-02-28",
        ),
        (
            "CITATION.cff",
            r"\Z",
            "repository-code: https://b.example/c/d\n",
            r"says repository-code https://b\.example/c/d",
        ),
        ("nrc_fast/base/version.py", r'"3.*"', '"3.1.4.dev1"', r"says __version__ 3\.1\.4\.dev1; expected is 3\.1\.4"),
        (
            "pyproject.toml",
            r"^\[project\.scripts\]$",
            '[project.urls]\nHomepage = "https://b.example"\n\n\\g<0>',
            r"other addresses",
        ),
        ("pyproject.toml", r"^\[project\]$", "[other]", r"pyproject.toml has 0 lines with \[project\]"),
        ("README.md", r"\]\(LICENSE\)", "](LICENCE)", r"README.md links to LICENCE, which is not in the checkout"),
        ("README.md", r"\]\(LICENSE\)", "](../LICENSE)", r"README.md links to \.\./LICENSE, which is not"),
        ("README.md", r"\]\(LICENSE\)", "](/LICENSE)", r"README.md links to /LICENSE, which is not"),
    ],
)
def test_files_that_say_something_else_are_refused(
    checkout: Path, name: str, pattern: str, text: str, message: str
) -> None:
    replace(checkout / name, pattern, text)
    before = contents(checkout)
    refused = release(checkout)
    assert refused.returncode == 1
    assert re.search(r"^no release: .*" + message, refused.stderr), refused.stderr
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("home", "tag", "message"),
    [
        (
            "http://forge.example/a/b",
            "v3.1.4",
            "--home is 'http://forge.example/a/b'; expected is https://HOST/OWNER/NAME",
        ),
        (f"{HOME}/", "v3.1.4", "--home is"),
        (f"{HOME}.git", "v3.1.4", "--home is"),
        ("/", "v3.1.4", "--home is '/'"),  # of variables that are not set
        (HOME, "3.1.4", "--tag is '3.1.4'; expected is a v and a version"),
        (HOME, "main", "--tag is 'main'"),
        (HOME, "v3.1.5", "says __version__ 3.1.4; expected is 3.1.5"),
    ],
)
def test_other_homes_and_tags_are_refused(checkout: Path, home: str, tag: str, message: str) -> None:
    before = contents(checkout)
    refused = release(checkout, home, tag)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert contents(checkout) == before


def test_another_home_is_refused_after_the_first(checkout: Path) -> None:
    release(checkout)
    once = contents(checkout)
    refused = release(checkout, "https://forge.example/another/nrc_fast")
    assert refused.returncode == 1
    assert contents(checkout) == once


# ---- who calls it ----


def test_every_job_that_builds_for_a_tag_states_the_home_before() -> None:
    path = ROOT / ".github" / "workflows" / "wheels.yml"
    if not path.is_file():
        pytest.skip("needs a checkout")
    jobs = re.split(r"^  (?=\w+:\n)", path.read_text(encoding="utf-8").partition("\njobs:\n")[2], flags=re.MULTILINE)
    builds = re.compile(r"uses: pypa/cibuildwheel@|run: python -m build ")
    states = 'run: python packaging/release.py --home "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" --tag "$GITHUB_REF_NAME"'
    building = [job for job in jobs if builds.search(job)]
    assert [job.partition(":")[0] for job in building] == ["wheels", "source", "cuda"]
    for job in building:
        before, after = job.split(states)
        assert before.endswith("if: startsWith(github.ref, 'refs/tags/v')\n        ")
        assert "uses: actions/checkout@" in before
        assert "uses: actions/setup-python@" in before
        assert not builds.search(before)
        assert builds.search(after)
