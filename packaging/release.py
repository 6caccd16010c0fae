#!/usr/bin/env python3
"""States the home of a release in a checkout, before its distributions are built.

A release is made where the repository lives, and only the workflow that makes it knows where that is. This writes the
addresses into pyproject.toml and CITATION.cff, and makes every link of README.md one that leads somewhere from the
page of a package index. It fails, and writes nothing, unless the version and the date are those of the tag everywhere.

Usage: python packaging/release.py --home https://github.com/OWNER/NAME --tag v1.2.3 [--root CHECKOUT]   (3.11 or later)
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import tomllib

HOME = re.compile(r"https://[\w.-]+(?::\d+)?/[\w.-]+/[\w.-]+(?<!\.git)")
TAG = re.compile(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
ABSOLUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")
# Code, which is left as it is, or what stands before the target of an image or a link, and the target.
LINK = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[`~]*[ \t]*$"
    r"|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=ticks)(?!`)"
    r"|(?P<before>!\[[^\]]*\]\(<?|\]\(<?|^ {0,3}\[[^\]\n]+\]:[ \t]*<?|<(?:img|a)\b[^>]*?\b(?:src|href)=[\"'])"
    r"(?P<target>[^)\s>\"']+)",
    re.MULTILINE | re.DOTALL,
)


class Release(NamedTuple):
    """Where a version is at home."""

    home: str
    tag: str

    @property
    def version(self) -> str:
        """What the tag says, without its v."""
        return self.tag.removeprefix("v")

    def address(self, kind: str, path: str) -> str:
        """Of a page (blob), a folder (tree) or a file's own bytes (raw), as they are at the tag."""
        return f"{self.home}/{kind}/{self.tag}/{path}"

    def urls(self) -> dict[str, str]:
        """What an index shows beside the package."""
        return {
            "Homepage": self.home,
            "Documentation": self.address("tree", "docs"),
            "Changelog": self.address("blob", "CHANGELOG.md"),
            "Issues": f"{self.home}/issues",
            "Source": f"{self.home}/tree/{self.tag}",
        }


def release_at(home: str, tag: str) -> Release:
    """A release whose home and tag have the form that they must have."""
    if not HOME.fullmatch(home):
        msg = f"--home is {home!r}; expected is https://HOST/OWNER/NAME, with nothing after it"
        raise ValueError(msg)
    if not TAG.fullmatch(tag):
        msg = f"--tag is {tag!r}; expected is a v and a version, as v1.2.3 or v1.2.3rc1"
        raise ValueError(msg)
    return Release(home, tag)


def the_one(pattern: str, text: str, name: str, what: str) -> re.Match[str]:
    """The only place where a pattern matches in a file."""
    found = list(re.finditer(pattern, text, re.MULTILINE))
    if len(found) != 1:
        msg = f"{name} has {len(found)} lines with {what}; expected is one"
        raise ValueError(msg)
    return found[0]


def require(found: str, expected: str, name: str, what: str) -> None:
    """Fail where a file says something else."""
    if found != expected:
        msg = f"{name} says {what} {found}; expected is {expected}"
        raise ValueError(msg)


def date_of(release: Release, changelog: str) -> str:
    """The day that the heading of the release gives."""
    heading = rf"^## \[{re.escape(release.version)}\] - (.+?)[ \t]*$"
    said = the_one(heading, changelog, "CHANGELOG.md", f"## [{release.version}] - YYYY-MM-DD")[1]
    try:
        date = datetime.date.fromisoformat(said)
    except ValueError:
        date = None
    if date is None or date.isoformat() != said:
        msg = f"CHANGELOG.md has ## [{release.version}] - {said}; a release has its date there, as YYYY-MM-DD"
        raise ValueError(msg)
    return said


def with_urls(release: Release, pyproject: str) -> str:
    """pyproject.toml with the table of addresses."""
    name = "pyproject.toml"
    project = the_one(r"^\[project\][ \t]*\n(?:(?!\[).*\n)*", pyproject, name, "[project]")
    expected = tomllib.loads(pyproject)
    there = expected["project"].get("urls")
    if there == release.urls():
        return pyproject
    if there is not None:
        msg = f"{name} has other addresses in [project.urls]: {there}; start from a clean checkout of {release.tag}"
        raise ValueError(msg)
    lines = [f'{label} = "{address}"' for label, address in release.urls().items()]
    table = "\n".join(["[project.urls]", *lines, "", ""])
    written = pyproject[: project.end()] + table + pyproject[project.end() :]
    expected["project"]["urls"] = release.urls()
    if tomllib.loads(written) != expected:
        msg = f"{name} would say something else with [project.urls] after [project]; write that table there by hand"
        raise ValueError(msg)
    return written


def with_home(release: Release, date: str, citation: str) -> str:
    """CITATION.cff with the repository."""
    name = "CITATION.cff"
    require(the_one(r"^version: (.+)$", citation, name, "version")[1], release.version, name, "version")
    released = the_one(r"^date-released: (.+)\n", citation, name, "date-released")
    require(released[1].strip("\"'"), date, name, "date-released")
    if re.search(r"^repository-code:", citation, re.MULTILINE):
        there = the_one(r"^repository-code: (.+)$", citation, name, "repository-code")[1]
        require(there.strip("\"'"), release.home, name, "repository-code")
        return citation
    return f'{citation[: released.end()]}repository-code: "{release.home}"\n{citation[released.end() :]}'


def with_absolute_links(release: Release, readme: str, root: Path) -> str:
    """README.md with links and images that lead somewhere wherever the text is shown."""

    def absolute(match: re.Match[str]) -> str:
        before, target = match["before"], match["target"]
        if target is None or ABSOLUTE.match(target):
            return match[0]
        path, mark, section = target.partition("#")
        parts: list[str] = []
        for part in PurePosixPath(path or "README.md").parts:
            if part == ".." and parts:
                parts.pop()
            else:
                parts.append(part)
        place = root.joinpath(*map(unquote, parts))
        if ".." in parts or path.startswith("/") or not place.exists():
            msg = f"README.md links to {target}, which is not in the checkout {root}"
            raise ValueError(msg)
        image = before.startswith(("!", "<img"))
        kind = "raw" if image else "tree" if place.is_dir() else "blob"
        return before + release.address(kind, "/".join(parts)) + mark + section

    return LINK.sub(absolute, readme)


def state(release: Release, root: Path) -> list[str]:
    """Write what a release says of itself; gives the names of the files that are new."""
    names = ["CHANGELOG.md", "CITATION.cff", "README.md", "nrc_fast/base/version.py", "pyproject.toml"]
    texts = {name: (root / name).read_bytes().decode("utf-8") for name in names}
    version = the_one(r'^__version__ = "(.+)"$', texts["nrc_fast/base/version.py"], "version.py", "__version__")[1]
    require(version, release.version, "nrc_fast/base/version.py", "__version__")
    date = date_of(release, texts["CHANGELOG.md"])
    written = {
        "CITATION.cff": with_home(release, date, texts["CITATION.cff"]),
        "README.md": with_absolute_links(release, texts["README.md"], root),
        "pyproject.toml": with_urls(release, texts["pyproject.toml"]),
    }
    changed = [name for name, text in written.items() if text != texts[name]]
    for name in changed:
        (root / name).write_bytes(written[name].encode())
    return changed


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", required=True, help="where the repository lives: https://HOST/OWNER/NAME")
    parser.add_argument("--tag", required=True, help="the tag of the release: v and the version")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parents[1], help="the checkout; else that of this file"
    )
    given = parser.parse_args()
    try:
        changed = state(release_at(given.home, given.tag), given.root)
    except (OSError, ValueError) as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    print(f"{given.tag} of {given.home}: {', '.join(changed) or 'nothing'} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
