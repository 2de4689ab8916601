"""What mkdocs.yml needs beside Markdown: pages that are made from the code or stand outside docs/, and their links.

The README is the first page. The command line, the options and the Python reference are written while the site is
built, from the parsers, the configuration files and the docstrings, so that they cannot be out of date.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

#: File outside docs/ -> page of the site.
OUTSIDE = {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")} | {"README.md": "index.md"}
#: Where linked files that are no pages go.
FILES = "files"
#: Beside the public names: what a system, a corpus, a metric, a task or a method of domain generalisation is made of.
FURTHER = (
    *("s3prl_metaperser.meta.library", "s3prl_metaperser.methods.base", "s3prl_metaperser.methods.learner.Learner"),
    *("s3prl_metaperser.corpora.reader", "s3prl_metaperser.corpora.base", "s3prl_metaperser.evaluation.metrics.Metric"),
    *("s3prl_metaperser.tasks.Task", "s3prl_metaperser.generalise.base", "s3prl_metaperser.registry.Registry"),
)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`[.~]*([^`]*)`")


class PlainRoles(griffe.Extension):
    """Docstrings name things as Sphinx does (``:func:`.x```); here they are code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)


def on_config(config: Any) -> Any:
    """Pages that mkdocs.yml does not place stand in a last group."""
    placed = set(re.findall(r"[\w/]+\.md", str(config.nav)))
    rest = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    if more := [page for page in rest if page not in placed]:
        config.nav.append({"More": more})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add what is not in docs/."""
    made = {"ref/cli.md": command_line(), "ref/config.md": configuration(), "ref/api.md": reference()}
    made |= {page: (ROOT / name).read_text(encoding="utf-8") for name, page in OUTSIDE.items()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    texts = {(ROOT / "docs" / file.src_uri): file.content_string for file in files.documentation_pages()}
    texts |= {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in OUTSIDE}
    for place, path in sorted({each for source, text in texts.items() for each in _linked(source, text)}):
        files.append(File.generated(config, place, abs_src_path=str(path), inclusion=InclusionLevel.INCLUDED))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site has them; a list needs a blank line before it here, and none on a forge."""
    source = next(
        (ROOT / n for n, uri in OUTSIDE.items() if uri == page.file.src_uri), ROOT / "docs" / page.file.src_uri
    )
    here = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        name, hash_, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not name:
            return found[0]
        place = _place(source, name)
        return text if place is None else f"{mark}[{text}]({posixpath.relpath(place, here or '.')}{hash_}{anchor})"

    if page.file.src_uri in OUTSIDE.values():  # pictures in HTML
        markdown = re.sub(r'((?:src|srcset)=")docs/', r"\1", markdown)
    lines = _LINK.sub(link, markdown).split("\n")
    item = re.compile(r"\s*(?:[-*]|\d+\.) ")
    fenced, out = False, []
    for line in lines:
        before = out[-1] if out else ""
        if not fenced and item.match(line) and before.strip() and not item.match(before) and not before.startswith(" "):
            out.append("")
        fenced ^= line.lstrip().startswith("```")
        out.append(line)
    return "\n".join(out)


def _place(source: Path, name: str) -> str | None:
    """Where the site has what a page links to; None where it has not, as folders."""
    path = Path(os.path.normpath(source.parent / name))
    inside = path.relative_to(ROOT).as_posix()
    if inside in OUTSIDE:
        return OUTSIDE[inside]
    if inside.startswith("docs/"):
        return inside.removeprefix("docs/")
    if not path.is_file():
        return None
    return f"{FILES}/{inside}{'.txt' if path.suffix == '.md' else ''}"  # as it is, and no page


def _linked(source: Path, text: str) -> Iterator[tuple[str, Path]]:
    """(place, file) of what lies outside docs/ and a page links to."""
    for _, _, target in _LINK.findall(text):
        name = target.partition("#")[0]
        if name and "://" not in target and (place := _place(source, name)) and place.startswith(f"{FILES}/"):
            yield place, Path(os.path.normpath(source.parent / name))


# -- pages from the code ---------------------------------------------------------------------------------------------


def command_line() -> str:
    """Every command with its options."""
    from s3prl_metaperser.cli import build_parser
    from s3prl_metaperser.s3prl_plugin.arguments import build_parser as launcher

    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    helps = {each.dest: each.help for each in commands._choices_actions}
    parts = ["# The command line", "Made from the parsers; `metaperser COMMAND --help` says the same.", ""]
    parts += [f"- [`{name}`](#{name}): {helps[name]}" for name in commands.choices]
    for name, parser in commands.choices.items():
        parts += ["", f"## {name}", "", f"{helps[name]}.", "", *_table(parser)]
    parts += ["", "## run_downstream.py", "", "s3prl's launcher, option for option.", "", *_table(launcher())]
    return "\n".join(parts)


def _table(parser: argparse.ArgumentParser) -> list[str]:
    rows = ["| | |", "|---|---|"]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        value = (
            ""
            if action.nargs == 0
            else action.metavar
            or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())
        )
        name = f"{', '.join(action.option_strings)} {value}".strip() if action.option_strings else value
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        rows.append(f"| {_code(name)} | {_cell(text)} |")
    return rows


def configuration() -> str:
    """Every key of the configuration files, with its default, its comment and the systems that go by it."""
    parts = [
        "# Options",
        "Made from the configuration files. `datarc`, `modelrc` and `evalrc` concern every system.",
        "",
    ]
    for path in sorted((ROOT / "downstream").glob("*/config*.yaml")):
        parts += ["", f"## {path.parent.name}/{path.name}", "", "| option | default | |", "|---|---|---|"]
        parts += [f"| `{name}` | {_code(value)} | {_cell(said)} |" for name, value, said in _keys(path)]
    return "\n".join(parts)


def _keys(path: Path) -> list[tuple[str, str, str]]:
    """(option, default, comment) of a configuration file, whose comments stand beside or below their keys."""
    found: list[tuple[str, str, str]] = []
    levels: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        key = re.match(r"( *)([\w-]+): *([^#]*?) *(?:#\s*(.*))?$", line)
        if key:
            indent, name, value, said = len(key[1]), key[2], key[3], key[4] or ""
            levels = [*(level for level in levels if level[0] < indent), (indent, name)]
            if value:
                found.append((".".join(name for _, name in levels), value, said))
        elif (more := re.match(r" {20,}# ?(.*)$", line)) and found:
            name, value, said = found[-1]
            found[-1] = (name, value, f"{said} {more[1]}".strip())
    return found


def reference() -> str:
    """The public names, and what additions are made of."""
    import s3prl_metaperser

    names = [f"s3prl_metaperser.{home}.{name}" for name, home in s3prl_metaperser._HOMES.items()]
    parts = ["# Python", "## Public names", "`from s3prl_metaperser import ...`", *(f"::: {name}" for name in names)]
    return "\n\n".join([*parts, "## What additions are made of", *(f"::: {name}" for name in FURTHER)])


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
